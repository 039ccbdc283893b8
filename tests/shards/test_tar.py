"""The tar writer against `tarfile`, and the memory that it borrows."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from bolid.shards.buffers import GRAIN, Buffers, ViewFile, opened
from bolid.shards.tar import PIECE, SMALL, TarWriter, header
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from .conftest import encoded, pattern


def reference(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member.tobuf(format=tarfile.USTAR_FORMAT)


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=100), st.integers(0, 8**11 - 1))
def test_headers_are_those_of_tarfile(name: str, size: int) -> None:
    assert header(name, size) == reference(name, size)


@pytest.mark.parametrize(("name", "size"), [("x" * 101, 1), ("x", 8**11)])
def test_what_ustar_cannot_say_is_refused(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="does not fit into a USTAR header"):
        header(name, size)


def test_a_tar_of_many_and_of_large_parts_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    edges = [0, 1, 511, 512, 513, SMALL - 1, SMALL, SMALL + 1, PIECE - 512, PIECE + 1]
    sizes = [size for edge in edges for size in (edge, edge)] + list(range(3000))
    parts = {f"{number:05d}.bin": os.urandom(size) for number, size in enumerate(sizes)}
    lent = [memoryview(data) if number % 2 else data for number, data in enumerate(parts.values())]
    released = []
    with path.open("wb", buffering=0) as file, TarWriter(file, released.append) as tar:
        offsets = {name: tar.add(name, data) for name, data in zip(parts, lent, strict=True)}
        digest = tar.finish()
    assert [id(view) for view in released] == [id(data) for data in lent if isinstance(data, memoryview)]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert path.stat().st_size == tar.size
    with tarfile.open(path) as found:
        assert {member.name: found.extractfile(member).read() for member in found} == parts
        assert {member.name: member.offset_data for member in found} == offsets


def test_a_system_that_writes_a_little_at_a_time_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, original = tmp_path / "x.tar", os.writev
    monkeypatch.setattr(os, "writev", lambda file, pieces: original(file, [bytes(pieces[0])[:700]]))
    data = os.urandom(5000)
    with path.open("wb", buffering=0) as file, TarWriter(file) as tar:
        offset = tar.add("a", data)
        assert hashlib.sha256().digest() != tar.finish()
    assert path.read_bytes()[offset : offset + 5000] == data


def test_memory_is_lent_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a" * 1000)
    (tmp_path / "b").write_bytes(b"b" * (GRAIN + 1))
    (tmp_path / "empty").write_bytes(b"")
    buffers = Buffers()
    first = buffers.read(tmp_path / "a")
    assert bytes(first) == b"a" * 1000
    other = buffers.read(tmp_path / "a")
    assert other.obj is not first.obj
    buffers.give_back(first)
    assert buffers.read(tmp_path / "a").obj is first.obj
    assert bytes(buffers.read(tmp_path / "b")) == b"b" * (GRAIN + 1)
    assert bytes(buffers.read(tmp_path / "empty")) == b""
    buffers.give_back(memoryview(b"not lent"))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF"])
def test_pillow_reads_from_a_view_what_it_reads_from_a_file(name: str) -> None:
    data = encoded(pattern(3, (40, 30)), name)
    with Image.open(io.BytesIO(data)) as one, Image.open(opened(memoryview(data))) as other:
        assert one.convert("RGB").tobytes() == other.convert("RGB").tobytes()


@given(st.binary(max_size=50), st.lists(st.tuples(st.integers(-60, 60), st.integers(0, 2), st.integers(-1, 60))))
def test_a_view_behaves_like_a_file(data: bytes, steps: list[tuple[int, int, int]]) -> None:
    ours, theirs = io.BufferedReader(ViewFile(memoryview(data)), 8), io.BytesIO(data)
    for offset, whence, size in steps:
        start = {0: 0, 1: theirs.tell(), 2: len(data)}[whence]
        if start + offset >= 0:
            assert ours.seek(offset, whence) == theirs.seek(offset, whence)
        assert ours.read(size) == theirs.read(size)
        assert ours.tell() == theirs.tell()
        assert ours.readline() == theirs.readline()
