"""Benchmark of the crawler against img2dataset and against a bare aiohttp loop, on one loopback server.

    python benchmarks/crawl.py                       all parts, some minutes
    python benchmarks/crawl.py --quick               all parts, small, under a minute once the peer is installed
    python benchmarks/crawl.py --peers DIR           environment of img2dataset; made by pip when it is missing

Every contender fetches the same list from the same server process, in turns (A B C A B C ...), so that whatever else
the machine does hits all of them. A time runs from the first photo request that the server sees to the end of the
command: start-up and imports are left out for all, everything that is stored is in. Linux only (TCP_INFO).
"""

import argparse
import contextlib
import json
import os
import platform
import random
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PEER = ("img2dataset==1.47.0",)
PEER_PYTHONS = ("python3.12", "python3.11", "python3.10")  # it imports imghdr, which 3.13 removed


@dataclass(frozen=True)
class Scale:
    """How much is done; the quick one shows that everything works, the full one is for figures."""

    photos: int
    rounds: int
    kills: int
    known: int
    modes: tuple[str, ...]  # of img2dataset, see crawl_img2dataset.py
    ranges: tuple[bool, ...]  # whether the server knows Range


FULL = Scale(photos=1500, rounds=5, kills=20, known=1_000_000,
             modes=("as it comes", "checked", "unchecked"), ranges=(True, False))  # fmt: skip
QUICK = Scale(photos=150, rounds=1, kills=3, known=20_000, modes=("checked",), ranges=(True,))
CONCURRENCY = 16
THREADS = 32  # of img2dataset, a process; more are not faster here
PROCESSES = 2


class Server:
    """The gallery server, a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{(process.stdout.readline() if process.stdout else '').strip()}"

    @property
    def host_port(self) -> str:
        """Where it listens."""
        return self.url.removeprefix("http://")

    def stats(self) -> dict[str, object]:
        """Return its counts."""
        return json.loads(self._get("/stats"))

    def reset(self) -> None:
        """Forget the counts."""
        self._get("/reset")

    def first(self) -> float:
        """Return when the first photo was asked for, on the clock of the machine; 0 where none was."""
        return float(str(self.stats()["first"]))

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read()


@contextlib.contextmanager
def serving(**gallery: object) -> Iterator[Server]:
    """Run the server while the block runs."""
    command = [sys.executable, str(HERE / "crawl_server.py"), json.dumps(gallery)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield Server(process)
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def bolid(server: Server, workspace: Path, *words: object) -> list[str]:
    """Return a crawl as it is typed, without pauses."""
    options = ["--allow-private", server.host_port, "--rate", "10000", "--concurrency", CONCURRENCY, "-w", workspace]
    return [sys.executable, "-m", "bolid.cli", "crawl", *map(str, [*words, *options])]


def bare(file: Path, folder: Path) -> list[str]:
    """Return the bare loop as it is typed."""
    return [sys.executable, str(HERE / "crawl_bare.py"), str(file), str(folder), str(CONCURRENCY)]


def img2dataset(peers: Path, file: Path, folder: Path, mode: str, min_size: int = 0) -> list[str]:
    """Return img2dataset as it is typed."""
    words = [file, folder, PROCESSES, THREADS, min_size, mode]
    return [str(peers / "bin" / "python"), str(HERE / "crawl_img2dataset.py"), *map(str, words)]


def install(peers: Path) -> None:
    """Make the environment of img2dataset unless it is there."""
    python = peers / "bin" / "python"
    if not python.exists():
        found = next((each for name in PEER_PYTHONS if (each := shutil.which(name))), None)
        if found is None:
            raise SystemExit(f"img2dataset needs one of {', '.join(PEER_PYTHONS)}; none is on the PATH")
        subprocess.run([found, "-m", "venv", str(peers)], check=True)
    if subprocess.run([python, "-c", "import img2dataset"], capture_output=True, check=False).returncode:
        print(f"installing {PEER[0]} into {peers}", file=sys.stderr)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEER], check=True)


def timed(server: Server, command: Sequence[str], log: Path) -> float:
    """Run a command and return the seconds from its first photo request to its end."""
    server.reset()
    os.sync()  # what the one before left to be written is not paid for by this one
    run(command, log)
    return time.monotonic() - server.first()


def run(command: Sequence[str], log: Path) -> None:
    """Run a command to its end; what it printed is shown where it failed."""
    with log.open("w") as out:
        code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False, cwd="/").returncode
    if code:
        raise SystemExit(f"{' '.join(command)} returned {code}:\n{log.read_text()[-3000:]}")


def stored(folder: Path) -> int:
    """Count the photos in a folder."""
    return sum(1 for _ in folder.rglob("*.jpg"))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return min / median / max."""
    return " / ".join(f"{f(values):.{digits}f}" for f in (min, statistics.median, max))


def write_list(server: Server, file: Path, photos: int) -> Path:
    """Write the addresses of all photos, one a line."""
    file.write_text("".join(f"{server.url}/img/{n}.jpg\n" for n in range(photos)))
    return file


def loop(scale: Scale, peers: Path, work: Path) -> dict[str, object]:
    """Time stored photos per second on one list against the bare loop, in turns."""
    return _race(scale.rounds, 2 * scale.photos, work, lambda file: {"bare aiohttp loop": bare(file, work / "run")})


def peer(scale: Scale, peers: Path, work: Path) -> dict[str, object]:
    """Time stored photos per second on one list against img2dataset in three modes, in turns."""

    def modes(file: Path) -> dict[str, list[str]]:
        return {f"img2dataset {mode}": img2dataset(peers, file, work / "run", mode) for mode in scale.modes}

    return _race(scale.rounds, scale.photos, work, modes)


def _race(rounds: int, photos: int, work: Path, others: Callable[[Path], dict[str, list[str]]]) -> dict[str, object]:
    with serving(photos=photos, narrow=0, people=10, range=True) as server:
        file = write_list(server, work / "list.txt", photos)
        contenders = {"bolid": bolid(server, work / "run", "--urls", file), **others(file)}
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(rounds):
            for name, command in contenders.items():
                seconds = timed(server, command, work / "log")
                count = stored(work / "run")
                if count != photos:
                    print(f"  {name} stored {count} of {photos}")
                rates[name].append(count / seconds)
                print(f"  round {turn + 1}: {name}: {count / seconds:.0f} photos/s", flush=True)
                shutil.rmtree(work / "run")
    return _rates(rates)


def _rates(rates: dict[str, list[float]]) -> dict[str, object]:
    for name, values in rates.items():
        print(f"{name}: {spread(values, 0)} photos/s")
    found: dict[str, object] = {"photos_per_s": rates}
    for name in [each for each in rates if each != "bolid"]:
        ratios = [a / b for a, b in zip(rates["bolid"], rates[name], strict=True)]
        print(f"bolid / {name}: {spread(ratios)}")
        found[f"bolid / {name}"] = ratios
    return found


def narrow(scale: Scale, peers: Path, work: Path) -> dict[str, object]:
    """Compare the bytes that reach bolid and img2dataset where half of the photos are too small."""
    found: dict[str, object] = {}
    for ranges in scale.ranges:
        with serving(photos=scale.photos, narrow=0.5, people=10, range=ranges) as server:
            file = write_list(server, work / "list.txt", scale.photos)
            acked = {}
            commands = {
                "bolid": bolid(server, work / "run", "--urls", file, "--min-res", 1000),
                "img2dataset": img2dataset(peers, file, work / "run", "checked", 1000),
            }
            for name, command in commands.items():
                timed(server, command, work / "log")
                if stored(work / "run") != scale.photos // 2:
                    print(f"  {name} stored {stored(work / 'run')} of {scale.photos // 2}")
                acked[name] = int(str(server.stats()["acked"]))
                shutil.rmtree(work / "run")
            totals = server.stats()
        words = "a server with Range" if ranges else "a server without Range"
        ratio = acked["bolid"] / acked["img2dataset"]
        small = (acked["bolid"] - int(str(totals["good_bytes"]))) / int(str(totals["narrow_bytes"]))
        print(f"{words}: {acked['bolid'] / 1e6:.1f} MB against {acked['img2dataset'] / 1e6:.1f} MB: "
              f"{ratio:.3f}{' (target: at most 0.55)' if ranges else ''}; "
              f"of the bytes of the too small photos {small:.1%} came")  # fmt: skip
        found[words] = {"acked": acked, "ratio": ratio}
    return found


def under_fire(scale: Scale, peers: Path, work: Path) -> dict[str, object]:
    """Kill one crawl of a site at random moments; the set is that of a calm crawl, and nothing is asked for twice."""
    photos = min(scale.photos, 40 * scale.kills)
    with serving(photos=photos, narrow=0.25, people=10, range=True) as server:
        words = (server.url, "--min-photos", "1", "--rate", "120", "--concurrency", "8")
        calm, shot = work / "calm", work / "shot"
        run(bolid(server, calm, *words[:3], "--concurrency", "8"), work / "log")
        command = [*bolid(server, shot, *words[:3])]
        command[command.index("--rate") + 1] = "120"
        chance, again, kills = random.Random(time.time_ns()), 0, 0
        while kills < scale.kills:
            again += _one_life(server, command, shot, chance.uniform(0.02, 0.8))
            kills += 1
        server.reset()
        before = _names(shot)
        run(command, work / "log")
        again += len(_asked_of(server) & _addresses(shot, before))
        same = _names(shot) == _names(calm)
        at_last = len(_names(shot) - before)
    print(f"{kills} kills: {len(_names(shot))} photos stored ({at_last} by the last run), "
          f"set {'identical' if same else 'DIFFERENT'}, requests for stored photos: {again}")  # fmt: skip
    return {"kills": kills, "photos": len(_names(shot)), "identical": same, "asked_again": again}


def _one_life(server: Server, command: Sequence[str], workspace: Path, after: float) -> int:
    """Start the crawl, kill it some time after its first photo request; count requests for what was stored before."""
    server.reset()
    before = _names(workspace)
    known = _addresses(workspace, before)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    until = time.monotonic() + 30
    while not server.first() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(after)
    process.kill()
    if process.wait() == 0:
        print("  the crawl ended before it was killed; take more photos")
    return len(_asked_of(server) & known)


def _names(workspace: Path) -> set[str]:
    return {file.name for file in (workspace / "images").rglob("*.jpg") if not file.name.startswith(".")}


def _addresses(workspace: Path, names: set[str]) -> set[str]:
    if not names:
        return set()
    with contextlib.closing(sqlite3.connect(workspace / "crawl.sqlite")) as database:
        rows = database.execute("SELECT sha256, url FROM photos WHERE sha256 IS NOT NULL").fetchall()
    return {"/" + url.split("/", 3)[3] for sha256, url in rows if f"{sha256}.jpg" in names}


def _asked_of(server: Server) -> set[str]:
    asked = server.stats()["asked"]
    return set(asked) if isinstance(asked, dict) else set()


def million(scale: Scale, peers: Path, work: Path) -> dict[str, object]:
    """Measure a claim and the memory of a crawl beside a frontier of very many known photos."""
    found: dict[str, object] = {}
    for known in (1000, scale.known):
        shutil.rmtree(work / "run", ignore_errors=True)
        with serving(photos=200, narrow=0, people=1, range=True) as server:
            command = bolid(server, work / "run", server.url, "--min-photos", "1")
            run(command, work / "log")
            shutil.rmtree(work / "run" / "images")
            _know(work / "run" / "crawl.sqlite", known)
            claim = _claim_us(work / "run" / "crawl.sqlite", server.url)
            begun = time.monotonic()
            peak = _peak_mb(command)
            seconds = time.monotonic() - begun
            begun = time.monotonic()
            run(command, work / "log")
            again = time.monotonic() - begun
        print(f"{known} known photos: a claim of 8 takes {claim:.0f} µs; a crawl of 200 photos beside them "
              f"takes {seconds:.1f} s and {peak:.0f} MB of memory, the same again with nothing new {again:.1f} s"
              f"{' (target: under 300)' if known == scale.known else ''}")  # fmt: skip
        found[str(known)] = {"claim_us": claim, "peak_mb": peak, "seconds": seconds, "again_s": again}
    return found


def _know(frontier: Path, known: int) -> None:
    """Make the photos of a finished crawl pending, and add known ones, half stored and half waiting elsewhere."""
    columns = (
        "source, identity, path, link, url, page_url, host, state, sha256, width, height, bytes, format, fetched_at"
    )
    with contextlib.closing(sqlite3.connect(frontier)) as database, database:
        database.execute("UPDATE photos SET state = 'pending', sha256 = NULL")
        source, identity = database.execute("SELECT source, identity FROM photos LIMIT 1").fetchone()
        database.executemany(
            f"INSERT INTO photos ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, 'done', ?, 1200, 1500, 300000, 'JPEG', 1e9)",
            (
                (source, identity, n.to_bytes(8, "big"), f"https://known.example/photos/someone/pic-{n}.html",
                 f"https://known.example/img/someone/{n}.jpg", f"https://known.example/photos/someone/pic-{n}.html",
                 "https://known.example", f"{n:064x}")
                for n in range(known)
            ),
        )  # fmt: skip


def _claim_us(frontier: Path, host: str) -> float:
    from bolid.crawler.frontier import Frontier

    with contextlib.closing(sqlite3.connect(frontier)) as database:
        site, source = database.execute(
            "SELECT site, source FROM photos JOIN identities ON identities.id = identity LIMIT 1"
        ).fetchone()
    opened = Frontier(frontier, site, source)
    times = []
    for _ in range(20):
        begun = time.perf_counter()
        claimed = opened.claim_photos(host, time.time(), 8)
        times.append((time.perf_counter() - begun) * 1e6)
        assert len(claimed) == 8
    opened.release_all()
    opened.close()
    return statistics.median(times)


def _peak_mb(command: Sequence[str]) -> float:
    """Run a command and return the largest memory it held, MB (10^6)."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} returned {process.returncode}")
    assert isinstance(used, resource.struct_rusage)
    return used.ru_maxrss * 1024 / 1e6


PARTS = {"loop": loop, "img2dataset": peer, "narrow": narrow, "kill": under_fire, "million": million}


def main() -> None:
    """Run the parts and print their figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that everything works")
    parser.add_argument("--peers", type=Path, default=Path.home() / ".cache" / "bolid-benchmarks" / "img2dataset",
                        help="environment of img2dataset, made when it is missing")  # fmt: skip
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; may be given several times")
    parser.add_argument("--work", type=Path, help="folder for what is fetched; default: a temporary one")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    scale, parts = QUICK if given.quick else FULL, given.part or list(PARTS)
    if {"img2dataset", "narrow"} & set(parts):
        install(given.peers)
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, Python {platform.python_version()}, {os.cpu_count()} cores, "
          f"{scale.photos} photos, {scale.rounds} rounds")  # fmt: skip
    figures: dict[str, object] = {}
    for part in parts:
        print(f"--- {part}: {(PARTS[part].__doc__ or '').splitlines()[0]}", flush=True)
        with tempfile.TemporaryDirectory(prefix="bolid-benchmark-", dir=given.work) as folder:
            figures[part] = PARTS[part](scale, given.peers, Path(folder))
    if given.out:
        given.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
