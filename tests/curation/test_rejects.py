import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from bolid.curation import rejects
from bolid.curation.config import CurateConfig
from bolid.curation.run import curate
from bolid.workspace import Workspace

from .conftest import photo

CONFIG = CurateConfig(min_res=60, min_photos=2, caption="none")
Crawled = Callable[[Sequence[tuple[str, bytes]]], Workspace]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_every_photo_that_is_not_kept_has_a_row_with_its_distance_from_being_kept(crawled: Crawled):
    one, two = photo(1), photo(2)
    small, smaller = photo(2, (59, 74)), photo(1, (40, 50))  # the pictures of two and one, scaled down
    long, broken, lonely, gone = photo(5, (64, 256)), photo(6)[:900], photo(7), photo(8)
    workspace = crawled(
        [("ann", data) for data in (one, two, one, small, smaller, long, broken, gone)] + [("bob", lonely)]
    )
    workspace.photo(sha(gone), "JPEG").unlink()
    curate(workspace, CONFIG, workers=1)
    rows = {row["sha256"]: row for row in pq.read_table(workspace.rejects_table).to_pylist()}

    def told(data: bytes) -> tuple[object, ...]:
        row = rows[sha(data)]
        return row["stage"], row["reason"], row["value"], row["threshold"], row["margin"]

    assert told(one) == ("duplicates", "exact_duplicate", 0, 0, 0)
    assert told(small) == ("decode", "too_small", 59, 60, -1)
    assert told(smaller) == ("decode", "too_small", 40, 60, -20)
    assert told(long) == ("decode", "aspect", 4, 3, -1)
    assert told(broken) == ("decode", "corrupt", None, None, None)
    assert told(lonely) == ("coverage", "too_few_photos", 1, 2, -1)
    assert told(gone) == ("failed", "the file is missing", None, None, None)
    assert len(rows) == 7
    near = {name: rows[sha(data)]["nearest_kept"] for name, data in (("small", small), ("smaller", smaller))}
    assert near == {"small": sha(two), "smaller": sha(one)}
    assert rows[sha(one)]["nearest_kept"] == sha(one)
    assert [rows[sha(data)]["nearest_kept"] for data in (broken, lonely, gone)] == [None] * 3
    assert {row["identity"] for row in rows.values()} == {"ann", "bob"}
    curated = pd.read_parquet(workspace.curated_table)
    assert sorted(curated["sha256"][curated["keep"]]) == sorted(map(sha, (one, two)))


def test_without_rejects_the_table_has_its_columns_and_no_rows(crawled: Crawled):
    workspace = crawled([("ann", photo(seed)) for seed in range(3)])
    curate(workspace, CONFIG, workers=1)
    table = pq.read_table(workspace.rejects_table)
    assert table.num_rows == 0
    assert table.schema.names == [
        "sha256", "identity", "stage", "reason", "value", "threshold", "margin", "nearest_kept"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "threshold", "expected"),
    [(800, 1000, -200), (3.5, 3.0, -0.5), (2, 4, -2), (0, 0, 0), (None, 1, None), (1, None, None)],
)
def test_a_margin_is_the_way_to_being_kept(value: float | None, threshold: float | None, expected: float | None):
    assert rejects.margin(value, threshold) == expected


def test_the_closest_hash_is_the_first_with_the_fewest_bits():
    hashes = np.array([0b1111, 0b0011, 0b1001, 2**63], np.uint64)
    assert rejects.closest(0b0001, hashes) == (1, 1)
    assert rejects.closest(2**63 + 1, hashes) == (3, 1)
