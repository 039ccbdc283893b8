"""The same photo in two galleries never lies on both sides of a split."""

from collections import defaultdict
from typing import Any

import pyarrow.parquet as pq
from bolid.shards.options import PackConfig
from bolid.shards.writer import pack


def test_no_photo_is_in_two_splits(curation: Any) -> None:
    curation.add_people(people=12, photos=3)
    own = list(curation.rows)
    for number in range(0, 12, 4):  # a photo of person n also hangs in the gallery of person n + 2
        shared = next(row for row in own if row["identity"] == f"person_{number:03d}")
        curation.rows.append({**shared, "identity": f"person_{number + 2:03d}", "url": f"{shared['url']}?again"})
    summary = pack(curation.write(), PackConfig(split=(0.34, 0.33, 0.33)))
    splits: dict[str, set[str]] = defaultdict(set)
    index = pq.read_table(summary.out / "index.parquet", columns=["sha256", "split"])
    for sha256, split in zip(index["sha256"].to_pylist(), index["split"].to_pylist(), strict=True):
        splits[sha256].add(split)
    assert set().union(*splits.values()) == {"train", "val", "test"}
    assert all(len(found) == 1 for found in splits.values())
