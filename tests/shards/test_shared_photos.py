"""The same photo in two galleries never lies on both sides of a split."""

from collections import defaultdict
from typing import Any

import pyarrow.parquet as pq
import pytest
from bolid.shards import read_index, verify
from bolid.shards.options import PackConfig
from bolid.shards.writer import pack

THIRDS = PackConfig(split=(0.34, 0.33, 0.33))


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


def hang(curation: Any, photo_of: str, in_gallery_of: str) -> str:
    """Hang a photo of one person in the gallery of another; return its sha256."""
    shared = next(row for row in curation.rows if row["identity"] == photo_of)
    curation.rows.append({**shared, "identity": in_gallery_of, "url": f"{shared['url']}?{in_gallery_of}"})
    return shared["sha256"]


def test_new_people_follow_those_whose_photos_they_show(curation: Any) -> None:
    """The photo is in the dataset already; the pack that adds the person sees only the new rows of the table."""
    curation.add_people(people=12, photos=2)
    out = pack(curation.write(), THIRDS).out
    before = {row["identity_slug"]: row["split"] for row in read_index(out).to_pylist()}
    curation.add_people(people=12, photos=2, first=20)
    for number in range(12):
        hang(curation, f"person_{number:03d}", f"person_{number + 20:03d}")
    pack(curation.write(), THIRDS)
    after = {row["identity_slug"]: row["split"] for row in read_index(out).to_pylist()}
    assert {slug: after[slug] for slug in before} == before
    assert {f"person_{n + 20:03d}": before[f"person_{n:03d}"] for n in range(12)}.items() <= after.items()
    assert set(before.values()) == {"train", "val", "test"}
    assert verify(out) == []


def test_a_photo_between_people_of_two_splits_stays_in_the_first(
    curation: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody can be moved any more, so the photo's second place is left out, and said so."""
    curation.add_people(people=12, photos=2)
    out = pack(curation.write(), THIRDS).out
    homes: dict[str, str] = {}
    for row in read_index(out).to_pylist():
        homes.setdefault(row["split"], row["identity_slug"])
    sha256 = hang(curation, homes["train"], homes["val"])
    curation.add_people(people=1, photos=1, first=50)  # a photo that is new to both
    new = curation.rows[-1]["sha256"]
    curation.rows[-1]["identity"] = homes["test"]
    hang(curation, homes["test"], homes["val"])
    curation.rows[-1] |= {name: curation.rows[-2][name] for name in ("sha256", "bytes")}
    summary = pack(curation.write(), THIRDS)
    assert (summary.added, summary.left_out) == (1, 2)
    assert "2 kept photos are left out" in capsys.readouterr().err
    found = defaultdict(set)
    for row in read_index(out).to_pylist():
        found[row["sha256"]].add(row["split"])
    assert found[sha256] == {"train"}
    assert len(found[new]) == 1
    assert verify(out) == []
    assert pack(curation.write(), THIRDS).added == 0
