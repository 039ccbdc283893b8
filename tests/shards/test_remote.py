"""Reading over a network: a loopback HTTP server with ranges, and a cache that may be killed, filled and damaged."""

import errno
import fcntl
import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest
import torch
from bolid.errors import DataError, UsageError, WorkspaceError
from bolid.shards import (
    IdentityBatchSampler,
    IdentityDataset,
    PackSummary,
    collate,
    read_index,
    read_manifest,
    stream,
    verify,
)
from bolid.shards.cache import BLOCK_BYTES, BlockCache
from bolid.shards.store import Store, open_store
from torch.utils.data import DataLoader

DIGEST = hashlib.sha256(b"shard").hexdigest()


@dataclass
class Site:
    url: str
    requests: list[str] = field(default_factory=list)
    failing: int = 0
    """Requests for tars, and for one file more, that will be answered with 503."""
    failing_file: str = ""
    spoilt: int = 0
    """Answers for tars of which every byte of the middle half will be another."""
    together: threading.Barrier | None = None
    """Answers for tars wait for each other."""
    at_once: int = 0
    most_at_once: int = 0
    """Requests for tars that were under way at the same time."""
    counting: threading.Lock = field(default_factory=threading.Lock)

    def count(self, change: int) -> None:
        with self.counting:
            self.at_once += change
            self.most_at_once = max(self.most_at_once, self.at_once)

    def tars(self) -> list[str]:
        return [request for request in self.requests if ".tar" in request]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, site: Site, folder: Path, *arguments: object) -> None:
        self.site, self.folder = site, folder
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            return self.send(404, b"")
        span = self.headers.get("Range")
        self.site.requests.append(f"{path.name} {span}")
        if self.site.failing and (path.suffix == ".tar" or path.name == self.site.failing_file):
            self.site.failing -= 1
            return self.send(503, b"")
        if self.site.together and path.suffix == ".tar":
            self.site.count(1)
            self.site.together.wait()
            self.site.count(-1)
        data = path.read_bytes()
        if span:
            start, end = span.removeprefix("bytes=").split("-")
            piece = data[int(start) : int(end) + 1 if end else None]
            if self.site.spoilt and path.suffix == ".tar":
                self.site.spoilt -= 1
                quarter = len(piece) // 4
                piece = piece[:quarter] + bytes(byte ^ 1 for byte in piece[quarter:-quarter]) + piece[-quarter:]
            self.send(206, piece, {"Content-Range": f"bytes {start}-{int(start) + len(piece) - 1}/{len(data)}"})
        else:
            self.send(200, data if body else b"", {"Content-Length": str(len(data))} if not body else {})
        return None

    def send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Accept-Ranges": "bytes", "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(packed: PackSummary) -> Iterator[Site]:
    site = Site("")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, site, packed.out))
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bolid.shards.remote.FIRST_WAIT_S", 0.0)


def test_a_remote_dataset_gives_the_same_items(site: Site, packed: PackSummary, tmp_path: Path) -> None:
    far = IdentityDataset(site.url, refs=2, size=24, cache=tmp_path)
    near = IdentityDataset(packed.out, refs=2, size=24)
    assert far.index.select(near.index.column_names).equals(near.index)
    for row in range(len(near)):
        assert torch.equal(far[row]["target"], near[row]["target"])
        assert far[row]["reference_keys"] == near[row]["reference_keys"]


def test_each_block_is_fetched_once(site: Site, tmp_path: Path) -> None:
    people = IdentityDataset(site.url, refs=2, size=24, cache=tmp_path)
    for _ in range(2):
        for row in range(len(people)):
            people[row]
    again = IdentityDataset(site.url, refs=2, size=24, cache=tmp_path)
    again[0]
    assert len(site.tars()) == len(set(site.tars())) <= 5  # the tars of train are smaller than a block


def test_a_batch_is_fetched_before_it_is_read(site: Site, tmp_path: Path) -> None:
    people = IdentityDataset(site.url, refs=2, size=24, cache=tmp_path)
    order = IdentityBatchSampler(people.index, 5)
    items = people.__getitems__(order.global_batch(0, 0))
    assert [item["key"] for item in items] == [people[draw]["key"] for draw in order.global_batch(0, 0)]
    fetched = len(site.requests)
    people.__getitems__(order.global_batch(0, 0))
    assert len(site.requests) == fetched


def test_all_blocks_of_a_batch_are_on_their_way_at_once(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer comes before all have been asked for: one after the other, this would never end."""
    people = IdentityDataset(site.url, refs=0, size=24, cache=tmp_path)
    monkeypatch.setattr("bolid.shards.cache.LOCKS", 2**32)  # no two blocks share a lock
    shards = len({shard.as_py() for shard in people.index["shard"]})
    assert shards >= 3
    site.together = threading.Barrier(shards, timeout=60)
    people.__getitems__(list(range(len(people))))
    assert site.together.n_waiting == 0


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks of 4 kB, about the size of a sample, so that another batch means other blocks."""
    monkeypatch.setattr("bolid.shards.remote.BLOCK_BYTES", 4096)
    return 4096


def arrived(people: IdentityDataset) -> None:
    wait(list(people._reader._store._coming.values()))


@pytest.mark.parametrize("workers", [None, 3])
def test_the_next_batch_of_the_worker_is_fetched_meanwhile(
    site: Site, tmp_path: Path, small_blocks: int, workers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = IdentityDataset(site.url, refs=1, size=24, cache=tmp_path)
    order = IdentityBatchSampler(people.index, 2, seed=5)
    people.follow(order)
    told = SimpleNamespace(num_workers=workers) if workers else None
    monkeypatch.setattr("bolid.shards.dataset.get_worker_info", lambda: told)
    people.__getitems__(order.batch(0, 0))
    arrived(people)
    people.follow(IdentityBatchSampler(people.index, 2, seed=6))  # of another run: nothing is fetched for it
    site.failing = 9999
    items = people.__getitems__(order.batch(0, workers or 1))
    assert [item["key"] for item in items] == [people[draw]["key"] for draw in order.batch(0, workers or 1)]
    site.failing = 0
    assert len(site.tars()) == len(set(site.tars()))


def test_an_epoch_that_is_read_ahead_gives_the_same_batches(site: Site, packed: PackSummary, tmp_path: Path) -> None:
    def batches(shards: Path | str) -> list[tuple[list[str], list[list[str]], torch.Tensor]]:
        people = IdentityDataset(shards, refs=2, size=24, cache=tmp_path)
        order = IdentityBatchSampler(people.index, 3, seed=1, rank=1, world_size=2)
        people.follow(order)
        loader = DataLoader(people, batch_sampler=order, collate_fn=collate)
        return [(batch["key"], batch["reference_keys"], batch["target"]) for batch in loader]

    for far, near in zip(batches(site.url), batches(packed.out), strict=True):
        assert far[:2] == near[:2]
        assert torch.equal(far[2], near[2])


def test_no_more_requests_are_under_way_than_allowed(
    site: Site, tmp_path: Path, small_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three at a time: with fewer this would never end, because answers go out by threes."""
    monkeypatch.setattr("bolid.shards.cache.LOCKS", 2**32)
    name, entry = max(read_manifest(site.url).shards.items(), key=lambda one: one[1].bytes)
    store = open_store(site.url, tmp_path, requests=3)
    blocks = entry.bytes // small_blocks // 3 * 3
    assert blocks >= 6
    site.together = threading.Barrier(3, timeout=60)
    store.prefetch([(name, 0, blocks * small_blocks)])
    wait(list(store._coming.values()))
    assert (len(site.tars()), site.most_at_once) == (blocks, 3)
    assert pickle.loads(pickle.dumps(store))._requests == 3
    with pytest.raises(UsageError, match="at least 1"):
        open_store(site.url, tmp_path, requests=0)


def test_reading_ahead_leaves_room_for_what_is_read_now(site: Site, tmp_path: Path, small_blocks: int) -> None:
    name, entry = max(read_manifest(site.url).shards.items(), key=lambda one: one[1].bytes)
    store = open_store(site.url, tmp_path, 8 * (small_blocks + 32))
    store.prefetch([(name, 0, entry.bytes)])
    wait(list(store._coming.values()))
    assert len(site.tars()) == 2  # a quarter of eight


def test_a_forked_worker_waits_for_no_fetch_of_its_parent(site: Site, packed: PackSummary, tmp_path: Path) -> None:
    store = open_store(site.url, tmp_path)
    name = min(read_manifest(site.url).shards)
    store._coming[name, 0] = Future()  # whose thread the child does not have
    store._process = -1  # as after a fork
    assert store.read_range(name, 600, 100) == (Path(packed.out) / name).read_bytes()[600:700]


def test_a_batch_that_cannot_be_fetched_names_the_sample(site: Site, tmp_path: Path) -> None:
    people = IdentityDataset(site.url, refs=0, size=24, cache=tmp_path)
    site.failing = 999
    with pytest.raises(DataError, match=r"train-\d+.tar, sample i\d+_\d+: .*failed 4 times"):
        people.__getitems__(list(range(len(people))))
    site.failing = 0


def test_workers_read_remote_data_too(site: Site, packed: PackSummary, tmp_path: Path) -> None:
    def keys(shards: Path | str, workers: int) -> list[object]:
        people = IdentityDataset(shards, refs=2, size=24, cache=tmp_path)
        people[0]  # a connection is open before the fork
        order = IdentityBatchSampler(people.index, 5)
        context = "fork" if workers else None
        loader = DataLoader(
            people, batch_sampler=order, collate_fn=collate, num_workers=workers, multiprocessing_context=context
        )
        return [(batch["key"], batch["target"].sum().item()) for batch in loader]

    assert keys(site.url, 2) == keys(packed.out, 0)


def test_failures_that_pass_are_tried_again(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = IdentityDataset(site.url, refs=0, size=24, cache=tmp_path)
    site.failing = 2
    people[0]
    assert capsys.readouterr().err.count("trying again") == 2
    site.failing = 99
    with pytest.raises(DataError, match=r"sample i\d+_\d+: .*failed 4 times"):
        people[len(people) - 1]
    site.failing = 0


@pytest.mark.parametrize("file", ["index.parquet", "manifest.json"])
def test_opening_survives_failures_that_pass(
    site: Site, packed: PackSummary, tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    site.failing, site.failing_file = 2, file
    people = IdentityDataset(site.url, refs=0, size=24, cache=tmp_path)
    assert people[0]["key"] == read_index(packed.out, "train")["key"][0].as_py()
    assert site.failing == 0
    site.failing = 99
    with pytest.raises(DataError, match=r"cannot be reached|cannot be read.*check the address and the network"):
        IdentityDataset(site.url, refs=0, size=24, cache=tmp_path)
    site.failing = 0


def test_the_stream_takes_any_address(site: Site, packed: PackSummary) -> None:
    """Also without curl, which the library itself would call."""
    system = fsspec.filesystem("memory")
    system.put(f"{packed.out}/", "/streamed", recursive=True)
    expected = [(one["__key__"], one["jpg"].tobytes(), one["json"]) for one in stream(packed.out, "train")]
    assert sorted(key for key, *_ in expected) == read_index(packed.out, "train")["key"].to_pylist()
    for url in (site.url, "memory://streamed"):
        assert [(one["__key__"], one["jpg"].tobytes(), one["json"]) for one in stream(url, "train")] == expected
    system.rm("/streamed", recursive=True)


def test_workers_share_the_shards_of_a_stream(packed: PackSummary) -> None:
    loader = DataLoader(stream(packed.out).to_tuple("__key__"), batch_size=None, num_workers=2)
    assert sorted(key for (key,) in loader) == read_index(packed.out)["key"].to_pylist()


def test_index_and_verification_work_over_the_network(site: Site, packed: PackSummary) -> None:
    assert read_index(site.url, "val").equals(read_index(packed.out, "val"))
    assert verify(site.url) == []


def test_shards_that_cannot_be_read_are_told_and_end_nothing(site: Site) -> None:
    site.failing = 9999
    found = [(problem.shard, "cannot be read to its end" in problem.text) for problem in verify(site.url)]
    assert found == [(name, True) for name in read_manifest(site.url).shards]


def test_a_place_without_a_dataset_says_so(site: Site) -> None:
    with pytest.raises(DataError, match="no finished dataset"):
        open_store(f"{site.url}/nowhere")


def test_addresses_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="as a string"):
        open_store(Path("s3://bucket/shards"))
    with pytest.raises(UsageError, match="nonsense"):
        open_store("nonsense://bucket/shards")


def test_a_damaged_block_is_not_believed(tmp_path: Path) -> None:
    BlockCache(tmp_path).put(DIGEST, 3, b"x" * 1000)
    assert BlockCache(tmp_path).get(DIGEST, 3, 10, 20) == b"x" * 10
    [path] = tmp_path.glob("*/*.block")
    whole = path.read_bytes()
    for damaged in (whole[:500], whole[:-1] + b"y", b""):
        path.write_bytes(damaged)
        assert BlockCache(tmp_path).get(DIGEST, 3, 10, 20) is None


def test_a_process_knows_which_blocks_it_has_checked(tmp_path: Path) -> None:
    writer, reader = BlockCache(tmp_path), BlockCache(tmp_path)
    writer.put(DIGEST, 3, b"x" * 1000)
    assert (writer.checked(DIGEST, 3), reader.checked(DIGEST, 3), writer.checked(DIGEST, 4)) == (True, False, False)
    reader.get(DIGEST, 3, 0, 1)
    assert reader.checked(DIGEST, 3)
    [path] = tmp_path.glob("*/*.block")
    path.write_bytes(path.read_bytes()[:500])
    assert not reader.checked(DIGEST, 3)
    path.unlink()
    assert not writer.checked(DIGEST, 3)


def test_a_damaged_block_is_fetched_again(site: Site, tmp_path: Path) -> None:
    people = IdentityDataset(site.url, refs=0, size=24, cache=tmp_path)
    before = people[0]["target"]
    for path in tmp_path.glob("*/*.block"):
        path.write_bytes(path.read_bytes()[:-7])
    assert torch.equal(IdentityDataset(site.url, refs=0, size=24, cache=tmp_path)[0]["target"], before)


def test_bytes_that_came_wrong_over_the_network_are_fetched_again(
    site: Site, packed: PackSummary, tmp_path: Path
) -> None:
    near = IdentityDataset(packed.out, refs=0, size=24)
    far = IdentityDataset(site.url, refs=0, size=24, cache=tmp_path)
    site.spoilt = 1
    for row in range(len(near)):
        assert torch.equal(far[row]["target"], near[row]["target"])
    assert site.spoilt == 0
    asked = len(site.tars())
    site.spoilt = 1000
    shutil.rmtree(tmp_path)
    middle = len(near) // 2
    with pytest.raises(DataError, match=r"train-.*sample .*sha256 of its .* is not the one in the index"):
        IdentityDataset(site.url, refs=0, size=24, cache=tmp_path)[middle]
    assert len(site.tars()) <= asked + 4  # a second try, no more


def test_the_cache_stays_below_its_limit_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, limit=10_000)
    for number in range(40):
        cache.put(DIGEST, number, bytes([number]) * 900)
        [path] = tmp_path.glob(f"*/*-{number:06d}.block")
        os.utime(path, (number, number))
        assert cache.size() <= 10_000
        cache.get(DIGEST, 0, 0, 1)  # block 0 is used all the time
    assert cache.get(DIGEST, 0, 0, 1) == b"\0"
    assert cache.get(DIGEST, 39, 0, 1) == bytes([39])
    assert cache.get(DIGEST, 5, 0, 1) is None
    cache.put(DIGEST, 99, bytes(20_000))  # larger than the whole cache
    assert cache.get(DIGEST, 99, 0, 1) is None


def test_a_torn_ledger_and_left_over_files_do_no_harm(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, limit=10_000)
    for number in range(5):
        cache.put(DIGEST, number, bytes(900))
    (tmp_path / "ledger").write_bytes(b"\0\0garbage")
    left = tmp_path / DIGEST[:2] / "left.tmp"
    left.write_bytes(bytes(3000))
    os.utime(left, (1, 1))
    for number in range(5, 12):
        cache.put(DIGEST, number, bytes(900))
        assert cache.size() <= 10_000
    assert not left.exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = BlockCache(tmp_path)
    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(WorkspaceError, match="the disk is full"):
        cache.put(DIGEST, 0, bytes(900))
    assert cache.size() == 0
    assert cache.get(DIGEST, 0, 0, 1) is None


SHARED = """
import os, signal, sys
from pathlib import Path
from bolid.shards.cache import BlockCache

cache, seed, dies = BlockCache(Path(sys.argv[1]), limit=20_000), int(sys.argv[2]), sys.argv[3] == "dies"
shard = "ab" * 32
for turn in range(300):
    number = (turn * 7 + seed * 13) % 60
    content = bytes([number]) * 900
    if dies and turn == 150:
        Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)  # written, not yet named
        number, content = 99, bytes([99]) * 900  # that no other process has written
    with cache.filling(shard, number):
        found = cache.get(shard, number, 5, 900)
        assert found is None or found == content[5:], number
        if found is None:
            cache.put(shard, number, content)
    assert cache.size() <= 20_000
"""


def test_processes_share_a_cache_and_one_dies(tmp_path: Path) -> None:
    """More blocks than fit, so they evict each other's; what one of them reads is right or not there."""
    running = [
        subprocess.Popen([sys.executable, "-c", SHARED, tmp_path, str(seed), "dies" if seed == 1 else "lives"])
        for seed in range(3)
    ]
    assert [process.wait() for process in running] == [0, -signal.SIGKILL, 0]
    assert len(list(tmp_path.glob("*/*.tmp"))) == 1
    assert BlockCache(tmp_path).size() <= 20_000


def test_a_dataset_larger_than_the_cache_can_be_read(site: Site, tmp_path: Path) -> None:
    people = IdentityDataset(site.url, refs=1, size=24, cache=tmp_path, cache_size=50_000)
    for row in range(len(people)):
        people[row]
    assert BlockCache(tmp_path).size() <= 50_000
    with pytest.raises(UsageError, match="like 64G"):
        IdentityDataset(site.url, cache=tmp_path, cache_size="much")
    assert BLOCK_BYTES % 512 == 0


def test_a_forked_worker_does_not_wait_for_its_parents_connection(site: Site, tmp_path: Path) -> None:
    store = open_store(site.url, tmp_path)
    assert store.exists("manifest.json")
    system = store._connected
    gone = []
    weakref.finalize(system, gone.append, True)
    store._process = -1  # as after a fork
    assert store.exists("manifest.json")
    assert store._connected is not system
    del system
    assert not gone


def test_a_worker_forked_in_mid_fetch_holds_no_lock(tmp_path: Path) -> None:
    """Threads fetch while the process may fork its workers; a lock that one inherits would stop all others."""
    cache = BlockCache(tmp_path)
    reading, writing = os.pipe()
    with cache.filling(DIGEST, 0), cache._ledger():
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # until the parent is done
            os._exit(0)
    for path in (tmp_path / "ledger", *(tmp_path / "locks").iterdir()):
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(writing)
    os.close(reading)
    os.waitpid(child, 0)


def test_readers_that_share_a_cache_fetch_a_block_once(site: Site, tmp_path: Path) -> None:
    shard = min(read_manifest(site.url).shards)
    stores = [open_store(site.url, tmp_path) for _ in range(6)]
    begin = threading.Barrier(len(stores))

    def read(store: Store) -> bytes:
        begin.wait()
        return store.read_range(shard, 600, 100)

    with ThreadPoolExecutor(len(stores)) as pool:
        assert len(set(pool.map(read, stores))) == 1
    assert len([request for request in site.requests if shard in request]) == 1
