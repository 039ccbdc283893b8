"""`bolid pack --out URL`: a dataset is packed in a folder of the workspace and sent whole, its manifest last.

The folder holds what the address had when the pack began (manifest, index, exclusions, but no tars), so that packing
into it is an append like any other. It is removed when everything was sent. A kill at any moment leaves there either
the old dataset or none; the next pack finds the folder and sends what is missing.

One writer an address: two packs at the same time are noticed before the manifest is written, not before.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .. import atomic, progress
from ..errors import DataError, UsageError, WorkspaceError
from ..workspace import Workspace
from .manifest import Manifest, ShardEntry
from .remote import again, connected
from .schema import CARD_FILE, CROISSANT_FILE, EXCLUDED_FILE, INDEX_FILE, MANIFEST_FILE, SHARD_NAME

STATE_FILE = ".sent.json"
SENDERS = 4
"""Shards that are sent at the same time."""


class Outbox:
    """The folder from which a dataset goes to an address.

    Args:
        url: of the dataset, as fsspec takes it (`s3://bucket/shards`).
        workspace: in which the folder lies.

    Raises:
        UsageError: the address needs a package that is not installed.
    """

    def __init__(self, url: str, workspace: Workspace) -> None:
        self.url = url.rstrip("/")
        self.folder = workspace.root / "outbox" / hashlib.sha256(self.url.encode()).hexdigest()[:16]
        try:
            self._system = connected(self.url)
        except (ImportError, ValueError) as error:
            raise UsageError(f"{url} cannot be opened: {error}") from error
        self._ground = ""
        self._ground_shards: list[str] = []
        self._sent: dict[str, str] = {}

    def begin(self) -> None:
        """Make the folder ready: go on where a killed pack stood, or fetch what the address has.

        Raises:
            WorkspaceError: the address cannot be reached.
            DataError: it holds tars that no pack of bolid left there.
        """
        found = self._manifest()
        if self._resumed(hashlib.sha256(found).hexdigest() if found else ""):
            return
        self.discard()
        self.folder.mkdir(parents=True, exist_ok=True)
        if not found:
            self._require_no_foreign_tars()
        for file in (INDEX_FILE, EXCLUDED_FILE):
            if self._exists(file):
                atomic.write_bytes(self.folder / file, self._again(lambda path: self._system.cat_file(path), file))
        if found:
            self._ground = hashlib.sha256(found).hexdigest()
            self._ground_shards = list(Manifest.parse(found, f"{self.url}/{MANIFEST_FILE}").shards)
            atomic.write_bytes(self.folder / MANIFEST_FILE, found)
        self._note()

    def send(self) -> None:
        """Send the finished dataset of the folder: shards, index, cards, and the manifest last.

        Raises:
            WorkspaceError: the address cannot be reached or written.
            DataError: another pack wrote there, or a shard is neither there nor here.
        """
        manifest = Manifest.parse((self.folder / MANIFEST_FILE).read_bytes(), str(self.folder / MANIFEST_FILE))
        missing = [name for name, entry in manifest.shards.items() if not self._there(name, entry)]
        if set(missing) & set(self._ground_shards):
            self._remove_manifest()  # what it says is about to be overwritten
        with progress.bar("upload", len(missing), "shards") as bar, ThreadPoolExecutor(SENDERS, "send") as pool:
            for name in pool.map(self._send_shard, missing):
                self._sent[name] = manifest.shards[name].sha256
                self._note()
                bar.advance(1, name)
        self._remove_manifest()
        for file in (INDEX_FILE, EXCLUDED_FILE, CARD_FILE, CROISSANT_FILE, MANIFEST_FILE):
            if (self.folder / file).exists():
                self._put(file)
        for name in self._tars():
            if name not in manifest.shards:
                self._again(lambda path: self._system.rm_file(path), name)

    def discard(self) -> None:
        """Remove the folder with all that lies in it."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _resumed(self, found: str) -> bool:
        """Say whether the folder goes on from what the address has: its manifest's digest, or none in mid-change."""
        path = self.folder / STATE_FILE
        if not path.exists():
            return False
        state = json.loads(path.read_text())
        if found not in (state["ground"], ""):
            return False
        self._ground, self._ground_shards, self._sent = state["ground"], state["ground_shards"], state["sent"]
        return True

    def _note(self) -> None:
        state = {"ground": self._ground, "ground_shards": self._ground_shards, "sent": self._sent}
        atomic.write_text(self.folder / STATE_FILE, json.dumps(state))

    def _there(self, name: str, entry: ShardEntry) -> bool:
        """Say whether the address has a shard, whole; one that was packed just now must be known to be sent."""
        packed_now = (self.folder / name).exists()
        if packed_now and self._sent.get(name) != entry.sha256:
            return False
        there = self._exists(name) and self._again(lambda path: self._system.info(path)["size"], name) == entry.bytes
        if not there and not packed_now:
            raise DataError(
                f"{self.url} lacks {name} or holds another one, and it is not here either; write the dataset anew "
                "with: bolid pack --repack"
            )
        return there

    def _send_shard(self, name: str) -> str:
        self._put(name)
        return name

    def _put(self, file: str) -> None:
        self._again(lambda path: self._system.put_file(str(self.folder / file), path), file)

    def _manifest(self) -> bytes:
        """Return the manifest at the address, nothing where there is none or (not on object stores) half of one."""
        if not self._exists(MANIFEST_FILE):
            return b""
        data: bytes = self._again(lambda path: self._system.cat_file(path), MANIFEST_FILE)
        try:
            json.loads(data)
        except ValueError:
            return b""
        return data

    def _remove_manifest(self) -> None:
        """From here on there is no dataset at the address until all of the new one is there."""
        found = self._manifest()
        if not found:
            return
        if hashlib.sha256(found).hexdigest() != self._ground:
            raise DataError(f"another pack wrote to {self.url} in the meantime; run the same command again")
        self._again(lambda path: self._system.rm_file(path), MANIFEST_FILE)

    def _tars(self) -> list[str]:
        try:
            paths = self._again(lambda path: self._system.ls(path.rstrip("/"), detail=False), "")
        except FileNotFoundError:
            return []
        return [name for path in paths if SHARD_NAME.fullmatch(name := Path(path).name)]

    def _require_no_foreign_tars(self) -> None:
        foreign = self._tars()
        if foreign and not self._exists(INDEX_FILE):
            raise DataError(
                f"{self.url} holds {foreign[0]} but neither {MANIFEST_FILE} nor {INDEX_FILE}: it is not a dataset of "
                "bolid, or one whose first upload was given up; choose another --out or remove the tars"
            )

    def _exists(self, file: str) -> bool:
        return bool(self._again(lambda path: self._system.exists(path), file))

    def _again(self, work: Callable[[str], Any], file: str) -> Any:  # noqa: ANN401
        try:
            return again(lambda: work(f"{self.url}/{file}"), f"{self.url}/{file}")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise WorkspaceError(f"{error}; check the address, the network and your rights, then run again") from error
