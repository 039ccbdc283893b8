"""Other streaming libraries on the same photos, in a virtual environment of their own.

The environment is made under a folder and sees the packages of the one that runs this script, so that torch, Pillow
and the decoding are the same; only the library itself is installed.
"""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

PEERS = {"mosaicml-streaming": "streaming", "litdata": "litdata"}
"""Name in the package registry -> name of the module."""


def install(folder: Path, package: str, *more: str) -> Path | None:
    """Return the Python of an environment with a package, None (and a printed line) when it does not install."""
    home = folder / package
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        site = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
        ours = sysconfig.get_path("purelib")
        (site / "bolid_peer.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package, *more]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    except subprocess.TimeoutExpired:
        print(f"skipped {package}: its installation took longer than 15 minutes")
        return None
    if done.returncode:
        print(f"skipped {package}: it does not install ({done.stderr.strip().splitlines()[-1]})")
        return None
    return python


def version(python: Path, package: str) -> str:
    """Return the installed version of a package."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def ask(python: Path, *words: object) -> float | None:
    """Run this file in a peer's environment; return the figure it prints, None (and a printed line) on failure."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "MOSAICML_STREAMING_DISABLE_TELEMETRY": "1"}
    command = [str(python), __file__, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=900)
    if done.returncode:
        print(f"skipped: {words} failed ({(done.stderr.strip().splitlines() or ['no message'])[-1]})")
        return None
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def _write_streaming(photos: list[Path], out: Path) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=str(out), columns={"jpg": "bytes", "identity": "int"}, size_limit=2**25) as writer:
        for number, path in enumerate(photos):
            writer.write({"jpg": path.read_bytes(), "identity": number})


def _read_streaming(out: Path, full: bool, count: int) -> float:
    from shards_loaders import BATCH, WORKERS, drafted, fully, rate
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    class Photos(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, number: int) -> object:
            sample = super().__getitem__(number)
            return (fully if full else drafted)(sample["jpg"]), sample["identity"]

    data = Photos(local=str(out), shuffle=True, shuffle_seed=0, batch_size=BATCH)
    return rate(DataLoader(data, batch_size=BATCH, num_workers=WORKERS), count)


def _sample(path: str) -> dict[str, object]:
    return {"jpg": Path(path).read_bytes(), "identity": int(Path(path).stem)}


def _write_litdata(photos: list[Path], out: Path) -> None:
    import litdata

    litdata.optimize(_sample, [str(path) for path in photos], str(out), num_workers=1, chunk_bytes="32MB")


def _read_litdata(out: Path, full: bool, count: int) -> float:
    from litdata import StreamingDataLoader, StreamingDataset
    from shards_loaders import BATCH, WORKERS, drafted, fully, rate

    class Photos(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, number: object) -> object:
            sample = super().__getitem__(number)
            return (fully if full else drafted)(sample["jpg"]), sample["identity"]

    return rate(StreamingDataLoader(Photos(str(out), shuffle=True), batch_size=BATCH, num_workers=WORKERS), count)


def main() -> None:
    """`write|full|draft MODULE PHOTOS OUT`: write the peer's format, or print samples a second."""
    what, module, source, out = sys.argv[1:5]
    photos = sorted(Path(source).rglob("*.jpg"))
    if what == "write":
        {"streaming": _write_streaming, "litdata": _write_litdata}[module](photos, Path(out))
        print(0)
    else:
        read = {"streaming": _read_streaming, "litdata": _read_litdata}[module]
        print(read(Path(out), what == "full", len(photos)))


if __name__ == "__main__":
    main()
