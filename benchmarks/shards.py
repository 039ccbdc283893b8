"""How fast packing, loading and opening are, against other tools on the same photos, in one run.

    python benchmarks/shards.py --quick                      less than a minute, no peers
    python benchmarks/shards.py --peers ~/.cache/bolid-peers the figures of docs/shards.md

Every comparison alternates A and B round by round, so that other load on the machine meets both; least, median and
most are printed. Warm: the files are in the system's memory. Cold: the system was asked to forget them before.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import shards_loaders as loaders
import shards_peers as peers
from bolid import progress
from bolid.shards import PackConfig, pack
from shards_material import Material, alternate, chill, make, ratios, seconds, tell, verdict

HERE = Path(__file__).parent
PEOPLE, REFERENCES = 8, 4


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    people: int
    photos: int
    rounds: int
    group_batches: int
    far_batches: int
    index_rows: int


FULL = Scale(people=30, photos=20, rounds=3, group_batches=20, far_batches=12, index_rows=10_000_000)
QUICK = Scale(people=8, photos=8, rounds=1, group_batches=4, far_batches=2, index_rows=100_000)


def sequential(material: Material, scale: Scale, root: Path) -> None:
    """`bolid pack` against `tarfile` writing the same members from the same files."""
    members = _members(material)
    out, tar = root / "packed", root / "plain.tar"

    def rate(name: str, work: Callable[[], object]) -> float:
        used = time.process_time()
        taken = seconds(work)
        cpu.setdefault(name, []).append((time.process_time() - used) / size * 1e9)
        return size / taken / 1e6

    def plain(name: str, sync: bool) -> float:
        found = rate(name, lambda: _plain_tar(members, tar, sync))
        tar.unlink()
        return found

    def packed() -> float:
        found = rate(ours, lambda: pack(material.workspace, config, out))
        shutil.rmtree(out)
        return found

    cpu: dict[str, list[float]] = {}
    config = PackConfig(split=(1, 0, 0))
    size = sum(path.stat().st_size for path in material.shards.glob("*.tar"))
    bare, synced, ours = (
        "tarfile, nothing synced (a power cut loses it)",
        "tarfile, synced once at the end",
        "bolid pack",
    )
    packed(), plain(bare, False)  # imports, first pages
    figures = alternate(
        4 * scale.rounds - 1, {bare: lambda: plain(bare, False), synced: lambda: plain(synced, True), ours: packed}
    )
    tell("Writing, source files warm", figures, "MB/s")
    print("  (pack also checks each photo's sha256, parses it, hashes the tar, writes index, manifest and card, and")
    print("  syncs each shard before it takes its name)")
    tell("CPU time of it", cpu, "s/GB")
    verdict("pack / tarfile synced", ratios(figures, ours, synced), 0.8)
    verdict("pack / tarfile not synced", ratios(figures, ours, bare), 0.8)


def _members(material: Material) -> list[tuple[str, Path | bytes]]:
    """Return name and content of every part that the shards hold; pictures as the files they come from."""
    found: list[tuple[str, Path | bytes]] = []
    for path in sorted(material.shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                data = tar.extractfile(member).read()
                if member.name.endswith(".json"):
                    sha256 = json.loads(data)["sha256"]
                    found.insert(len(found), (member.name[:-4] + "jpg", material.workspace.image(sha256, "jpg")))
                if not member.name.endswith(".jpg"):
                    found.append((member.name, data))
    return found


def _plain_tar(members: list[tuple[str, Path | bytes]], path: Path, sync: bool) -> None:
    with path.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, source in members:
                data = source.read_bytes() if isinstance(source, Path) else source
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        if sync:
            file.flush()
            os.fsync(file.fileno())


def loading(material: Material, scale: Scale, folder: Path | None, root: Path) -> None:
    """Samples a second of shuffled or sequential loaders, warm and cold."""
    tars = sorted(material.shards.glob("*.tar"))
    mine, same, own = (
        "bolid, shuffled",
        "webdataset, in order, bolid's decode",
        "webdataset, in order, its usual decode",
    )
    runs = {
        mine: lambda: loaders.rate(loaders.ours(material.shards), material.photos),
        same: lambda: loaders.rate(loaders.library(material.shards, full=False), material.photos),
        own: lambda: loaders.rate(loaders.library(material.shards, full=True), material.photos),
    }
    targets = {own: 2.0, same: 1.0}
    for package, module in peers.PEERS.items() if folder else ():
        python = peers.install(folder, package)
        out = root / module
        if python is None or peers.ask(python, "write", module, material.folders, out) is None:
            continue
        name = f"{package} {peers.version(python, package)}, shuffled"
        for how, label, target in (("draft", "bolid's decode", 1.0), ("full", "full decode", 2.0)):
            full_name = f"{name}, {label}"
            runs[full_name] = _peer(python, how, module, material, out)
            targets[full_name] = target
    runs[mine]()  # imports, first pages
    figures = alternate(scale.rounds, runs)
    tell(f"Loading to {loaders.SIDE} px, 2 workers, warm", figures, "samples/s")
    for name, target in targets.items():
        verdict(f"bolid / {name}", ratios(figures, mine, name), target)

    def cold(name: str) -> float:
        chill(tars)
        return runs[name]()

    chilled = alternate(scale.rounds, {name: lambda name=name: cold(name) for name in (mine, same, own)})
    tell("The same from cold tars", chilled, "samples/s")
    verdict(f"bolid / {own}", ratios(chilled, mine, own), 2.0)


def _peer(python: Path, how: str, module: str, material: Material, out: Path) -> Callable[[], float]:
    return lambda: peers.ask(python, how, module, material.folders, out) or float("nan")


def grouped(material: Material, scale: Scale) -> None:
    """P×K batches from local files."""
    files = [path.relative_to(material.folders) for path in sorted(material.folders.rglob("*.jpg"))]
    mine, same, own = "bolid", "single files at random, bolid's decode", "single files at random, full decode"

    def single(full: bool) -> float:
        loader = loaders.folders(material.folders, files, PEOPLE, scale.photos, REFERENCES, full=full)
        return loaders.group_rate(loader, scale.group_batches)

    runs = {
        mine: lambda: loaders.group_rate(loaders.groups(material.shards, PEOPLE, REFERENCES), scale.group_batches),
        same: lambda: single(False),
        own: lambda: single(True),
    }
    figures = alternate(scale.rounds, runs)
    tell(f"{PEOPLE} people × (1 + {REFERENCES}) photos, local, warm", figures, "batches/s")
    verdict(f"bolid / {same}", ratios(figures, mine, same), 1.0)
    verdict(f"bolid / {own}", ratios(figures, mine, own), 1.0)


def far(material: Material, scale: Scale, root: Path, delay_ms: float = 20) -> None:
    """P×K batches from a store whose every answer is late."""
    files = [path.relative_to(material.folders) for path in sorted(material.folders.rglob("*.jpg"))]
    limit, cache = scale.far_batches, root / "cache"
    with _store(root, delay_ms) as url:

        def ours(empty: bool) -> float:
            if empty:
                shutil.rmtree(cache, ignore_errors=True)
            address = f"{url}/{material.shards.relative_to(root)}"
            return loaders.group_seconds(loaders.groups(address, PEOPLE, REFERENCES, cache), limit)

        def single(together: bool = False, full: bool = False) -> float:
            address = f"{url}/{material.folders.relative_to(root)}"
            return loaders.group_seconds(
                loaders.folders(address, files, PEOPLE, scale.photos, REFERENCES, together, full), limit
            )

        def ours_bytes(empty: bool) -> float:
            if empty:
                shutil.rmtree(cache, ignore_errors=True)
            address = f"{url}/{material.shards.relative_to(root)}"
            return loaders.group_bytes(address, PEOPLE, REFERENCES, cache, limit)

        def single_bytes() -> float:
            address = f"{url}/{material.folders.relative_to(root)}"
            return loaders.folder_bytes(address, files, PEOPLE, scale.photos, REFERENCES, limit)

        first, later = "bolid, empty cache", "bolid, cache filled"
        alone, together = "single files, one request a photo", "single files, a batch's requests together"
        own = "single files, one request a photo, full decode"
        runs = {
            first: lambda: ours(True),
            later: lambda: ours(False),
            alone: single,
            own: lambda: single(full=True),
            together: lambda: single(together=True),
        }
        ours(True)
        figures = alternate(scale.rounds, runs)
        bare = alternate(
            scale.rounds, {first: lambda: ours_bytes(True), later: lambda: ours_bytes(False), alone: single_bytes}
        )
    tell(f"The same from a loopback store, {delay_ms:g} ms late, first {limit} batches", figures, "batches/s")
    for name in (own, alone):
        verdict(f"bolid, empty cache / {name}", ratios(figures, first, name), 3.0)
        verdict(f"bolid, cache filled / {name}", ratios(figures, later, name), 3.0)
    verdict(f"bolid, empty cache / {together}", ratios(figures, first, together), 1.0)
    tell("Bytes only, nothing decoded, one process", bare, "batches/s")
    verdict("bolid, empty cache / single files", ratios(bare, first, alone), 3.0)
    verdict("bolid, cache filled / single files", ratios(bare, later, alone), 3.0)


@contextlib.contextmanager
def _store(root: Path, delay_ms: float) -> Iterator[str]:
    server = subprocess.Popen(
        [sys.executable, str(HERE / "shards_store.py"), str(root), str(delay_ms)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def index(scale: Scale, root: Path) -> None:
    """Opening an index of many rows, each time in a new process, its file warm."""
    script, folder = str(HERE / "shards_index.py"), root / "index"
    subprocess.run([sys.executable, script, "make", str(folder), str(scale.index_rows)], check=True)
    print(
        f"\nIndex of {scale.index_rows:,} rows, {sum(p.stat().st_size for p in folder.iterdir()) / 1e9:.2f} GB on disk"
    )
    figures: dict[float, list[dict[str, float]]] = {1.0: [], 0.0: []}
    for _ in range(scale.rounds):
        for check, found in figures.items():
            done = subprocess.run(
                [sys.executable, script, "open", str(folder), str(check)], stdout=subprocess.PIPE, check=True
            )
            found.append(json.loads(done.stdout))
    for check, found in figures.items():
        middle = {name: sorted(one[name] for one in found)[len(found) // 2] for name in found[0]}
        opened = [one["open_s"] for one in found]
        print(
            f"  check={check:g}: open {middle['open_s']:.2f} s ({min(opened):.2f} to {max(opened):.2f}; of CPU "
            f"{middle['open_cpu_s']:.2f} s), sampler {middle['sampler_s']:.2f} s, first batch (it orders the epoch) "
            f"{middle['first_batch_s']:.2f} s, next batch {middle['next_batch_ms']:.2f} ms (99 %: "
            f"{middle['next_batch_99_ms']:.2f}), peak memory {middle['peak_gb']:.2f} GB (after imports "
            f"{middle['imports_gb']:.2f}, when open {middle['open_gb']:.2f})"
        )
        for name, most in (("open_s", 2.0), ("peak_gb", 1.5), ("next_batch_ms", 1.0)):
            print(f"  -> {name} <= {most:g}: {'met' if middle[name] <= most else 'MISSED'} ({middle[name]:.2f})")


def main() -> None:
    """Run the benchmarks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it works")
    parser.add_argument("--peers", type=Path, help="folder for the environments of other libraries; none: no peers")
    parser.add_argument("--only", nargs="*", default=["pack", "load", "groups", "far", "index"])
    given = parser.parse_args()
    scale = QUICK if given.quick else FULL
    progress.use_json_lines(False)
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    )
    print(f"load before: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    with tempfile.TemporaryDirectory(prefix="bolid-bench-") as name:
        root = Path(name)
        if set(given.only) != {"index"}:
            material = make(root, scale.people, scale.photos)
            print(f"{material.photos} photos of 1000×1400, {material.bytes / material.photos / 1e3:.0f} kB on average")
        if "pack" in given.only:
            sequential(material, scale, root)
        if "load" in given.only:
            loading(material, scale, given.peers, root)
        if "groups" in given.only:
            grouped(material, scale)
        if "far" in given.only:
            far(material, scale, root)
        if "index" in given.only:
            index(scale, root)
    print(f"\nload after: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")


if __name__ == "__main__":
    main()
