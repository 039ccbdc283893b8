"""A dataset in an object store: packed to it, read from it, by the real protocol on loopback (moto)."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import s3fs
import torch
from bolid.errors import DataError
from bolid.shards import (
    IdentityBatchSampler,
    IdentityDataset,
    PackConfig,
    collate,
    pack,
    read_index,
    read_manifest,
    stream,
    verify,
)
from moto.server import ThreadedMotoServer
from torch.utils.data import DataLoader

from .conftest import EVEN, Curation

CONFIG = PackConfig(shard_size=40_000, split=EVEN)


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An address in an empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    _, port = running.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "BOLID_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    bucket = tmp_path.name.replace("_", "-")
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(bucket)
    yield f"s3://{bucket}/shards"
    running.stop()


def test_a_dataset_lives_in_a_bucket(url: str, curation: Curation, tmp_path: Path) -> None:
    curation.add_people(people=6, photos=3)
    workspace = curation.write()
    with pytest.raises(DataError, match="no finished dataset"):
        IdentityDataset(url)
    assert pack(workspace, CONFIG, url).added == 18
    here = pack(workspace, CONFIG, tmp_path / "here").out
    assert read_manifest(url) == read_manifest(here)
    assert verify(url) == []
    curation.add_people(people=2, photos=3, first=6)
    assert pack(curation.write(), CONFIG, url).added == 6
    assert read_index(url).num_rows == 24
    assert verify(url) == []
    keys = sorted(sample["__key__"] for sample in stream(url, "train"))
    assert keys == read_index(url, "train")["key"].to_pylist()


def test_the_objects_are_the_files(url: str, curation: Curation, tmp_path: Path) -> None:
    """Asked with another client, over the socket of the server."""
    curation.add_people(people=4, photos=3)
    workspace = curation.write()
    pack(workspace, CONFIG, url)
    here = Path(pack(workspace, CONFIG, tmp_path / "here").out)
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    bucket = url.split("/")[2]
    found = {
        one["Key"]: client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read()
        for one in client.list_objects_v2(Bucket=bucket)["Contents"]
    }
    assert found == {f"shards/{path.name}": path.read_bytes() for path in here.iterdir() if path.name != ".lock"}
    client.close()


def test_workers_read_batches_from_a_bucket(url: str, curation: Curation, tmp_path: Path) -> None:
    curation.add_people(people=5, photos=3)
    workspace = curation.write()
    pack(workspace, CONFIG, url)
    here = pack(workspace, CONFIG, tmp_path / "here").out

    def batches(shards: Path | str, workers: int) -> list[tuple[list[str], torch.Tensor, torch.Tensor]]:
        people = IdentityDataset(shards, refs=2, size=24)
        context = "fork" if workers else None
        loader = DataLoader(
            people,
            batch_sampler=IdentityBatchSampler(people.index, 4),
            collate_fn=collate,
            num_workers=workers,
            multiprocessing_context=context,
        )
        return [(batch["key"], batch["target"], batch["references"]) for batch in loader]

    for far, near in zip(batches(url, 2), batches(here, 0), strict=True):
        assert far[0] == near[0]
        assert torch.equal(far[1], near[1])
        assert torch.equal(far[2], near[2])
