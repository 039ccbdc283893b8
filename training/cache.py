"""What frozen networks made of photos and captions, kept on disk so that it is made once.

A `Space` is a folder of entries which one network made in one way: its name is the digest of `what.json`, which says
the kind, the digest of the weights, the precision and the transform. An entry's key is the digest of what went in. So
another photo, other weights, another crop are another place, and nothing can be stale.

Entries lie in safetensors files, each tensor stacked over the entries of the file and their keys in its header. A file
appears whole or not at all and is never changed; its name is random, so any number of processes may add to a space.
Two that made the same entry at the same time leave it twice, which costs its bytes and no more.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .. import atomic
from ..errors import DataError

Entry = dict[str, Tensor]
"""Tensors of one entry by name; those of one space have the same names, types and shapes."""

FORMAT = "1"
FILE_BYTES = 64 * 2**20
FILE_SECONDS = 60.0
WHAT_FILE = "what.json"
SETTLED_NS = 2 * 10**9  # a folder that was changed this long ago has a later stamp when it is changed again


class Space:
    """Entries of one kind, made by the same weights in the same way.

    Args:
        root: folder of the cache.
        kind: of the entries, such as `latents`.
        what: all else that decides what an entry is, but for what its key stands for.
    """

    def __init__(self, root: Path, kind: str, **what: str) -> None:
        self.what = {"kind": kind, "format": FORMAT, **what}
        name = digest_of(json.dumps(self.what, sort_keys=True))
        self.folder = root / kind / name
        self._places: dict[str, tuple[str, int]] = {}
        self._files: dict[str, Any] = {}
        self._listed: set[str] = set()
        self._stamp = -1
        self._pending: dict[str, Entry] = {}
        self._pending_bytes = 0
        self._flushed = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """A process that reads on its own opens the files again and adds nothing."""
        return {**self.__dict__, "_files": {}, "_pending": {}, "_pending_bytes": 0}

    def __contains__(self, key: str) -> bool:
        if key not in self._places and key not in self._pending:
            self._list()
        return key in self._places or key in self._pending

    def __len__(self) -> int:
        """Number of entries, those included that another process added."""
        self._list()
        return len(self._places.keys() | self._pending.keys())

    def read(self, keys: Sequence[str]) -> Entry:
        """Return the tensors of the entries, stacked in the order of `keys`.

        Raises:
            KeyError: one is not there.
            DataError: a file is damaged.
        """
        entries = [self.entry(key) for key in keys]
        return {name: torch.stack([entry[name] for entry in entries]) for name in entries[0]}

    def entry(self, key: str) -> Entry:
        """Return the tensors of one entry; raises as `read`."""
        if key in self._pending:
            return self._pending[key]
        if key not in self:
            raise KeyError(key)
        name, row = self._places[key]
        opened = self._opened(name)
        return {tensor: opened.get_slice(tensor)[row] for tensor in opened.keys()}  # noqa: SIM118  (no mapping)

    def add(self, key: str, entry: Mapping[str, Tensor]) -> None:
        """Keep an entry; it is on the disk after `flush`, which happens by itself every 64 MiB and every minute."""
        if key in self._pending:
            return
        kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in entry.items()}
        self._pending[key] = kept
        self._pending_bytes += sum(tensor.nbytes for tensor in kept.values())
        if self._pending_bytes >= FILE_BYTES or time.monotonic() - self._flushed > FILE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was added, as one file.

        Raises:
            WorkspaceError: the folder cannot be written or the disk is full.
        """
        if not self._pending:
            return
        keys = list(self._pending)
        stacked = {name: torch.stack([self._pending[key][name] for key in keys]) for name in self._pending[keys[0]]}
        if not (self.folder / WHAT_FILE).exists():
            atomic.write_text(self.folder / WHAT_FILE, json.dumps(self.what, indent=1, sort_keys=True))
        # From the system, not from a generator that a run seeds: two processes must not choose the same name.
        with atomic.replacing(self.folder / f"{os.urandom(8).hex()}.safetensors") as temporary:
            save_file(stacked, temporary, {"keys": " ".join(keys)})
        self._pending, self._pending_bytes, self._flushed = {}, 0, time.monotonic()
        self._list()

    def _list(self) -> None:
        """Read the headers of files that appeared since the last look."""
        try:
            stamp = self.folder.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if stamp == self._stamp and time.time_ns() - stamp > SETTLED_NS:
            return
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name not in self._listed and not path.name.startswith("."):
                keys = self._opened(path.name).metadata()["keys"].split(" ")
                for row, key in enumerate(keys):
                    self._places.setdefault(key, (path.name, row))
                self._listed.add(path.name)
        self._stamp = stamp

    def _opened(self, name: str) -> Any:  # noqa: ANN401  (safetensors has no types)
        if name not in self._files:
            try:
                self._files[name] = safe_open(self.folder / name, framework="pt")
            except (SafetensorError, OSError) as error:
                raise DataError(f"{self.folder / name} is damaged ({error}); delete this file, it is made again") from (
                    error
                )
        return self._files[name]


def digest_of(*parts: str | bytes) -> str:
    """Return 16 bytes in hexadecimal that depend on the parts and on where one ends and the next begins."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def weights_digest(*networks: nn.Module) -> str:
    """Return a digest of every tensor of the networks, its name and type, and of their configurations."""
    digest = hashlib.sha256()
    for network in networks:
        digest.update(f"{type(network).__name__} {_settings(network)}\n".encode())
        for name, tensor in sorted(network.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _settings(network: nn.Module) -> str:
    """Return the configuration as text, less what says where it came from."""
    config: Any = getattr(network, "config", {})
    dump = getattr(config, "model_dump", None) or getattr(config, "to_dict", None) or (lambda: dict(config))
    hidden = ("transformers_version", "dtype", "torch_dtype")
    known = {key: value for key, value in dump().items() if not key.startswith("_") and key not in hidden}
    return json.dumps(known, sort_keys=True, default=str)
