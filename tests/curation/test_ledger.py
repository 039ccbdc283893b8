"""The ledger's parts: put together when there are many, and whole at every moment."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bolid.curation import ledger
from bolid.curation.stage import StageKey

SCHEMA = pa.schema([("sha256", pa.string()), ("value", pa.int32())])


class Stage:
    key = StageKey("stage", 1)
    schema = SCHEMA
    needs = ()


def scores(begin: int, end: int) -> pa.Table:
    return pa.table({"sha256": [f"{n:064x}" for n in range(begin, end)], "value": list(range(begin, end))}, SCHEMA)


def read(folder: Path) -> dict[str, int]:
    table = pa.concat_tables(ledger.scores_of(folder, Stage()))
    return dict(zip(table["sha256"].to_pylist(), table["value"].to_pylist(), strict=True))


def parts(folder: Path) -> list[Path]:
    return sorted(folder.rglob("part-*.parquet"))


def fill(folder: Path, batches: int) -> dict[str, int]:
    for n in range(batches):
        ledger.write_part(folder, Stage(), scores(3 * n, 3 * n + 3))
    return {f"{n:064x}": n for n in range(3 * batches)}


def test_many_small_parts_become_one_with_the_same_scores(tmp_path: Path) -> None:
    written = fill(tmp_path, ledger.MANY)
    ledger.compact(tmp_path, Stage())
    assert len(parts(tmp_path)) == 1
    assert read(tmp_path) == written


def test_large_parts_are_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_ROWS", 50)
    monkeypatch.setattr(ledger, "_LARGE", 0)
    ledger.write_part(tmp_path, Stage(), scores(0, 120))
    tables = list(ledger.scores_of(tmp_path, Stage()))
    assert [table.num_rows for table in tables] == [50, 50, 20]
    assert read(tmp_path) == {f"{n:064x}": n for n in range(120)}
    only = pa.concat_tables(ledger.scores_of(tmp_path, Stage(), ["value"]))
    assert only.to_pydict() == {"value": list(range(120))}


def test_few_parts_and_large_ones_stay_as_they_are(tmp_path: Path) -> None:
    fill(tmp_path, ledger.MANY - 1)
    large = ledger.write_part(tmp_path, Stage(), scores(10_000, 10_000 + ledger.SMALL_ROWS))
    before = parts(tmp_path)
    ledger.compact(tmp_path, Stage())
    assert parts(tmp_path) == before
    ledger.write_part(tmp_path, Stage(), scores(900, 903))
    ledger.compact(tmp_path, Stage())
    assert len(parts(tmp_path)) == 2
    assert large in parts(tmp_path)


def test_killed_between_writing_and_removing_nothing_is_lost_or_doubled_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = fill(tmp_path, ledger.MANY)

    def killed(path: Path, missing_ok: bool = False) -> None:
        if missing_ok:
            return  # a temporary file, after it was renamed
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            ledger.compact(tmp_path, Stage())
    assert len(parts(tmp_path)) == ledger.MANY + 1
    assert read(tmp_path) == written  # each twice, and the same
    ledger.compact(tmp_path, Stage())
    (one,) = parts(tmp_path)
    assert pq.read_metadata(one).num_rows == len(written)
    assert read(tmp_path) == written


def test_a_part_that_vanishes_while_it_is_read_is_found_where_it_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = fill(tmp_path, ledger.MANY)
    real = pq.ParquetFile
    opened = []

    def parquet_file(path: Path) -> pq.ParquetFile:
        opened.append(path)
        if len(opened) == 5:
            with monkeypatch.context() as patch:
                patch.setattr(pq, "ParquetFile", real)
                ledger.compact(tmp_path, Stage())
        return real(path)

    monkeypatch.setattr(pq, "ParquetFile", parquet_file)
    assert read(tmp_path) == written
    assert len(parts(tmp_path)) == 1
