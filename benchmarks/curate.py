"""Benchmark of the curation: its CPU stages, its second run, and very many photos.

    python benchmarks/curate.py                       all parts, about half an hour
    python benchmarks/curate.py --quick               all parts, small, some minutes
    python benchmarks/curate.py --peers DIR           environment of cleanvision; made by pip when it is missing

What is compared runs in turns (A B C C B A ...), so that whatever else the machine does hits all of it. A time leaves
out start-up and imports of the command, and has in it the starting of its worker processes. Linux only (hard links).
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import crawl_photos
import pyarrow as pa
import pyarrow.parquet as pq
from bolid.curation.config import CurateConfig
from bolid.curation.run import curate
from bolid.workspace import Workspace

HERE = Path(__file__).parent
PEER = "cleanvision==0.3.7"
SIZE = (1200, 1500)
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Scale:
    """How much is done; the quick one shows that everything works, the full one is for figures."""

    photos: int
    rounds: int
    known: int
    judged: int
    rows: tuple[int, ...]


FULL = Scale(photos=4000, rounds=3, known=2000, judged=400, rows=(25_000, 50_000, 100_000))
QUICK = Scale(photos=64, rounds=1, known=48, judged=24, rows=(500, 1000, 2000))


def stages(scale: Scale, peers: Path, work: Path) -> dict[str, object]:
    """Time the stages 1, 2 and 6 on all cores against cleanvision's matching checks and against a bare full decode."""
    photos = work / "photos"
    photos.mkdir()
    bases = list(crawl_photos.bases(SIZE, seed=1))
    for number in range(scale.photos):
        (photos / f"{number:06d}.jpg").write_bytes(b"".join(crawl_photos.numbered(bases[number % len(bases)], number)))
    own, count = [sys.executable, HERE / "curate_stages.py"], str(CORES)
    contenders = {
        "bolid": [*own, "bolid", photos, count],
        "bare full decode": [*own, "decode", photos, count],
        "cleanvision": [peers / "bin" / "python", HERE / "curate_cleanvision.py", photos, count],
    }
    runs = turns(scale.rounds, {name: lambda line=line: said(line) for name, line in contenders.items()})
    rates = {name: [scale.photos / seconds[-1] for seconds in runs[name]] for name in runs}
    rates["bolid, hashing included"] = [scale.photos / sum(seconds) for seconds in runs["bolid"]]
    tell(rates, "photos/s")
    against = {
        "bolid / cleanvision (target: at least 6)": ratios(rates, "bolid, hashing included", "cleanvision"),
        "bolid / bare full decode (target: at least 0.70)": ratios(rates, "bolid", "bare full decode"),
    }
    return {"photos_per_s": rates, **told(against)}


def again(scale: Scale, peers: Path, work: Path) -> dict[str, object]:
    """Time `curate`, report included: first run, nothing changed, one threshold changed; without and with networks."""
    found: dict[str, object] = {}
    for name, photos in (("none", scale.known), ("demo", scale.judged)):
        pose, face = (name, name) if name == "none" else ("demo-pose", "demo-face")
        config = CurateConfig(min_photos=4, pose_model=pose, face_model=face, caption="none")
        changed = config.model_copy(update={"min_res": 1100})
        times: dict[str, list[float]] = {"first run": [], "nothing changed": [], "one threshold changed": []}
        for turn in range(scale.rounds):
            workspace = crawled(work / f"{name}-{turn}", photos)
            for step, asked in zip(times, (config, config, changed), strict=True):
                begun = time.perf_counter()
                summary = curate(workspace, asked)
                times[step].append(time.perf_counter() - begun)
                if summary.computed != (photos if step == "first run" else 0) or summary.failed:
                    raise SystemExit(f"{step}: {summary.computed} of {photos} photos scored, {summary.failed} failed")
            shutil.rmtree(workspace.root)
        print(f"{photos} photos, networks: {name}")
        tell(times, "s", 2)
        steps = {
            f"{name}: first / nothing changed (target: at least 100)": ratios(times, "first run", "nothing changed"),
            f"{name}: first / one threshold changed (target: at least 50)": ratios(
                times, "first run", "one threshold changed"
            ),
        }
        found[name] = {"photos": photos, "seconds": times, **told(steps)}
    return found


def crawled(folder: Path, photos: int) -> Workspace:
    """Make a workspace as a crawl leaves it: 20 photos an identity, of 12 pictures, so that some are near copies."""
    workspace, rows = Workspace(folder), []
    bases = list(crawl_photos.bases(SIZE, seed=2))
    for number in range(photos):
        data = b"".join(crawl_photos.numbered(bases[number % len(bases)], number))
        sha256, slug = f"{number:064x}", f"person-{number // 20:04d}"
        path = workspace.photo(sha256, "JPEG")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        row = dict.fromkeys(("identity", "identity_name", "url", "page_url"), slug)
        rows.append(
            {**row, "sha256": sha256, "width": SIZE[0], "height": SIZE[1], "bytes": len(data), "format": "JPEG"}
        )
    pq.write_table(pa.Table.from_pylist(rows), workspace.images_table)
    os.sync()
    return workspace


def rows(scale: Scale, peers: Path, work: Path) -> dict[str, object]:
    """Time `curate` on synthetic scores of very many photos at three sizes: group stages, tables, proposals, report."""
    program, found = [sys.executable, HERE / "curate_rows.py"], {}
    for photos in scale.rows:
        printed([*program, "make", work / str(photos), str(photos)])
    figures = turns(
        1 if scale is QUICK else 3,
        {str(n): lambda n=n: json.loads(printed([*program, "curate", work / str(n)])[-1]) for n in scale.rows},
    )
    for photos, runs in figures.items():
        found[photos] = {key: statistics.median(each[key] for each in runs) for key in runs[0]}
        each = found[photos]
        own, before = each["anonymous_peak_mb"], each["anonymous_before_mb"]
        print(f"{photos} photos: {each['seconds']:.1f} s ({each['cpu_s']:.1f} s of CPU), {own:.0f} MB of its own at "
              f"most ({before:.0f} before it began), {each['peak_mb']:.0f} with mapped files")  # fmt: skip
    few, many = found[str(scale.rows[0])], found[str(scale.rows[-1])]
    more, cpu = scale.rows[-1] / scale.rows[0], many["cpu_s"] / few["cpu_s"]
    each = (many["anonymous_peak_mb"] - few["anonymous_peak_mb"]) * 1e3 / (scale.rows[-1] - scale.rows[0])
    print(f"{more:g} times the photos: {cpu:.2f} times the CPU time, {each:.2f} kB more memory a photo")
    return found


def install(peers: Path) -> None:
    """Make the environment of cleanvision unless it is there."""
    python = peers / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(peers)], check=True)
    if subprocess.run([python, "-c", "import cleanvision"], capture_output=True, check=False).returncode:
        print(f"installing {PEER} into {peers}", file=sys.stderr)
        subprocess.run([python, "-m", "pip", "install", "-q", PEER], check=True)


def printed(command: Sequence[object]) -> list[str]:
    """Run a command to its end and return the lines that it printed."""
    words = [str(word) for word in command]
    os.sync()  # what the one before left to be written is not paid for by this one
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} returned {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout.strip().splitlines()


def said(command: Sequence[object]) -> list[float]:
    """Run a contender and return its seconds; those of hashing come first where it hashes."""
    lines = printed(command)
    return [float(line) for line in lines[-2:] if line.replace(".", "").replace("e-", "").isdigit()]


def turns(rounds: int, runs: dict[str, Callable[[], object]]) -> dict[str, list]:
    """Run everything once a round, forwards and backwards in turn, and return what each run returned."""
    found: dict[str, list] = {name: [] for name in runs}
    for turn in range(rounds):
        for name in list(runs) if turn % 2 == 0 else reversed(runs):
            found[name].append(runs[name]())
            print(f"  round {turn + 1}: {name}: {found[name][-1]}", flush=True)
    return found


def ratios(figures: dict[str, list[float]], one: str, other: str) -> list[float]:
    """Return one / other, round by round."""
    return [a / b for a, b in zip(figures[one], figures[other], strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return min / median / max."""
    return " / ".join(f"{f(values):.{digits}f}" for f in (min, statistics.median, max))


def tell(figures: dict[str, list[float]], unit: str, digits: int = 0) -> None:
    """Print min / median / max of each."""
    for name, values in figures.items():
        print(f"{name}: {spread(values, digits)} {unit}")


def told(figures: dict[str, list[float]]) -> dict[str, list[float]]:
    """Print ratios and return them."""
    for name, values in figures.items():
        print(f"{name}: {spread(values)}")
    return figures


PARTS = {"stages": stages, "again": again, "rows": rows}


def main() -> None:
    """Run the parts and print their figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that everything works")
    parser.add_argument("--peers", type=Path, default=Path.home() / ".cache" / "bolid-benchmarks" / "cleanvision",
                        help="environment of cleanvision, made when it is missing")  # fmt: skip
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; may be given several times")
    parser.add_argument("--work", type=Path, help="folder for photos and workspaces; default: a temporary one")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    scale, parts = QUICK if given.quick else FULL, given.part or list(PARTS)
    if "stages" in parts:
        install(given.peers)
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, Python {platform.python_version()}, {CORES} cores, {scale}")
    figures: dict[str, object] = {}
    for part in parts:
        print(f"--- {part}: {(PARTS[part].__doc__ or '').splitlines()[0]}", flush=True)
        with tempfile.TemporaryDirectory(prefix="bolid-benchmark-", dir=given.work) as folder:
            figures[part] = PARTS[part](scale, given.peers, Path(folder))
    if given.out:
        given.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
