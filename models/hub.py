"""Files of a repository on the Hugging Face hub, at a commit: fetched, or linked from the hub's cache."""

import fnmatch
import json
import os
from collections.abc import Mapping
from pathlib import Path

from .. import __version__, atomic, progress
from ..errors import FetchError, MissingExtraError
from .catalogue import Entry, File, Hub
from .download import checked, download, file_sha256, is_whole, measured
from .registry import RECORD, is_inside


def fetch(network: Entry, source: Hub, folder: Path, known: Mapping[str, File]) -> dict[str, File]:
    """Put the files of a repository into `folder`; a killed fetch goes on where it was.

    A whole snapshot of the same commit in the hub's cache on this machine is linked, not fetched again.

    Args:
        network: what is fetched.
        source: its repository.
        folder: where the files go.
        known: sums where known; they outrank the hub's.

    Returns:
        The files with their sums, by path.

    Raises:
        FetchError: the hub refuses or is not reached, or its files are not those that are known.
        MissingExtraError: huggingface_hub is not installed.
        WorkspaceError: the disk is full or cannot be written.
    """
    cached = _snapshot(source)
    if not missing(network, source, cached) and _is_whole(cached, known):
        progress.say(f"{network.name}: linked from {cached}")
        for path in chosen(network, source, cached):
            _link(cached / path, folder / path)
        return checked(folder, chosen(network, source, folder), known)
    files = {}
    for want, url, headers in _offered(network, source, known):
        target = folder / want.path
        with atomic.storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        there = is_whole(target, want)
        files[want.path] = measured(target, want.path) if there else download(url, target, want, headers)
    if lacking := missing(network, source, folder):
        raise FetchError(f"{source} has no {', '.join(lacking)}; please report this, the registry is wrong")
    return files


def _offered(network: Entry, source: Hub, known: Mapping[str, File]) -> list[tuple[File, str, dict[str, str]]]:
    """Ask the hub for the files of a commit: of each that belongs to the network what is known, address and headers.

    The client lists and authorises; the bytes come through `download`, because the client begins a file anew in every
    process (huggingface_hub 2.4 gives the unfinished file a random name).
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import HfApi, hf_hub_url
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # the client's own, for all faults
        from huggingface_hub.hf_api import RepoFile
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]
    except ModuleNotFoundError as error:
        raise MissingExtraError("huggingface_hub", "train") from error
    try:
        api = HfApi(library_name="bolid", library_version=__version__)
        tree = list(api.list_repo_tree(source.repo, recursive=True, revision=source.revision))
    except (HTTPError, OSError) as error:
        raise FetchError(
            f"{source} cannot be fetched from the hub: {_first_line(error)}; run the same command again, or set "
            "BOLID_MIRROR to a mirror"
        ) from error
    headers = build_hf_headers(library_name="bolid", library_version=__version__)
    offered = []
    for file in tree:
        if isinstance(file, RepoFile) and _belongs(file.path, network, source):
            said = File(file.path, file.lfs.sha256 if file.lfs else None, file.size)
            url = hf_hub_url(source.repo, file.path, revision=source.revision)
            offered.append((_agreed(source, said, known.get(file.path)), url, headers))
    return offered


def _agreed(source: Hub, said: File, known: File | None) -> File:
    if known is None or known.sha256 is None:
        return said
    if said.sha256 not in (None, known.sha256):
        raise FetchError(f"the hub says that {said.path} of {source} has sha256 {said.sha256}, expected {known.sha256}")
    return File(said.path, known.sha256, said.bytes)


def chosen(network: Entry, source: Hub, folder: Path) -> list[str]:
    """Return the paths below `folder` that belong to a network, in order."""
    present = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in present if _belongs(path, network, source))


def missing(network: Entry, source: Hub, folder: Path) -> list[str]:
    """Return the files of a network that `folder` lacks: those the registry names, and the shards its indices name."""
    needed = {file.path for file in network.files}
    for path in chosen(network, source, folder):
        if path.endswith(".safetensors.index.json"):
            needed |= _shards(folder / path, path)
    return sorted(path for path in needed if not (folder / path).is_file())


def _shards(index: Path, path: str) -> set[str]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FetchError(f"{index} is no index of weights ({error!r}); delete it and pull again") from error
    return {f"{path.rpartition('/')[0]}/{name}".lstrip("/") for name in names}


def _belongs(path: str, network: Entry, source: Hub) -> bool:
    if any(path == file.path for file in network.files):
        return True
    notes = path == RECORD or path.startswith(".") or path.endswith((".part", ".part.json"))  # ours and the client's
    return is_inside(path) and not notes and any(fnmatch.fnmatch(path, pattern) for pattern in source.patterns)


def _snapshot(source: Hub) -> Path:
    """Return where the hub's own cache keeps a repository at a commit, whether it is there or not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(os.environ.get("HF_HOME") or cache / "huggingface").expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    return hub / f"models--{source.repo.replace('/', '--')}" / "snapshots" / source.revision


def _is_whole(cached: Path, known: Mapping[str, File]) -> bool:
    return all(
        file.sha256 in (None, file_sha256(cached / path)) for path, file in known.items() if (cached / path).is_file()
    )


def _link(cached: Path, target: Path) -> None:
    with atomic.storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(cached.resolve())
        except OSError:  # another file system
            target.symlink_to(cached.resolve())


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
