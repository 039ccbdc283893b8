"""Repositories of the hub: the real client, in the real command, against a hub on loopback."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from bolid.errors import FetchError
from bolid.models import fetch, registry
from bolid.models.catalogue import Hub

LIGHTNING = "sdxl-lightning-4step"
CAPTION = "blip2-flan-t5-xl"
DATA = random.Random(2).randbytes(3_000_000)
SHARDED = {
    "config.json": b"{}",
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    ).encode(),
    "model-00001-of-00002.safetensors": DATA[:1000],
    "model-00002-of-00002.safetensors": DATA[1000:3000],
    "spiece.model": b"pieces",
    "pytorch_model-00001-of-00002.bin": b"a pickle that nobody asked for",
    "README.md": b"# card",
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("BOLID_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("BOLID_MIRROR", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "models"


def repository(name: str) -> Hub:
    source = registry.entry(name).source
    assert isinstance(source, Hub)
    return source


def serve(file_server, name: str, files: Mapping[str, bytes]) -> None:
    """Answer as the hub does: the list of a commit's files, and each file with the commit in a header."""
    source = repository(name)
    listed = [
        {
            "type": "file",
            "path": path,
            "size": len(data),
            "oid": hashlib.sha1(data).hexdigest(),
            "lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134},
        }
        for path, data in files.items()
    ]
    tree = f"/api/models/{source.repo}/tree/{source.revision}"
    file_server.files[tree] = json.dumps(listed).encode()
    file_server.headers[tree] = {"Content-Type": "application/json"}
    for path, data in files.items():
        address = f"/{source.repo}/resolve/{source.revision}/{path}"
        file_server.files[address] = data
        file_server.headers[address] = {"X-Repo-Commit": source.revision}


def pulling(file_server, name: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bolid.cli", "models", "pull", name, "--accept-licence"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_ENDPOINT": file_server.url, **environment},
    )


def pulled(file_server, name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    process = pulling(file_server, name, **environment)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def snapshot(cache: Path, name: str, files: Mapping[str, bytes]) -> None:
    """Lay out a snapshot as the hub's own cache does: names that are links to blobs."""
    source = repository(name)
    home = cache / f"models--{source.repo.replace('/', '--')}"
    (home / "blobs").mkdir(parents=True)
    for path, data in files.items():
        blob = home / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        link = home / "snapshots" / source.revision / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)


def test_a_repository_comes_at_its_commit_and_only_what_was_asked_for(file_server, here):
    serve(file_server, CAPTION, SHARDED)
    done = pulled(file_server, CAPTION)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == registry.local(CAPTION) == here / CAPTION
    wanted = set(SHARDED) - {"README.md", "pytorch_model-00001-of-00002.bin"}
    assert set(registry.read_record(here / CAPTION / "bolid-files.json").files) == wanted
    assert {path: (here / CAPTION / path).read_bytes() for path in wanted} == {path: SHARDED[path] for path in wanted}
    assert not any(request.path.endswith((".bin", ".md")) for request in file_server.requests)
    assert all(repository(CAPTION).revision in request.path for request in file_server.requests)


def test_a_network_of_one_file_is_that_file(file_server, here):
    serve(file_server, LIGHTNING, {"sdxl_lightning_4step_unet.safetensors": DATA, "other.safetensors": b""})
    assert pulled(file_server, LIGHTNING).returncode == 0
    assert registry.local(LIGHTNING) == here / LIGHTNING / "sdxl_lightning_4step_unet.safetensors"
    assert registry.local(LIGHTNING).read_bytes() == DATA


def test_a_killed_pull_goes_on(file_server, here):
    serve(file_server, LIGHTNING, {"sdxl_lightning_4step_unet.safetensors": DATA})
    address = next(path for path in file_server.files if path.endswith("unet.safetensors"))
    file_server.holds[address] = 2_000_000
    process = pulling(file_server, LIGHTNING)
    file_server.wait_for(address, 2_000_000)
    part = here / LIGHTNING / "sdxl_lightning_4step_unet.safetensors.part"
    while not (part.exists() and part.stat().st_size >= 1_000_000):  # written a piece at a time
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert registry.absence(registry.entry(LIGHTNING)) is not None
    kept = part.stat().st_size
    done = pulled(file_server, LIGHTNING)
    assert done.returncode == 0, done.stderr
    assert [request.range for request in file_server.requests if request.path == address] == [None, f"bytes={kept}-"]
    assert registry.local(LIGHTNING).read_bytes() == DATA


def test_verify_and_pull_mend_a_damaged_file_of_a_repository(file_server, here):
    serve(file_server, CAPTION, SHARDED)
    assert pulled(file_server, CAPTION).returncode == 0
    shard = here / CAPTION / "model-00002-of-00002.safetensors"
    shard.write_bytes(bytes(2000))
    assert fetch.verify([CAPTION])[0].problems == [f"{shard} is damaged"]
    assert pulled(file_server, CAPTION).returncode == 0
    assert shard.read_bytes() == DATA[1000:3000]
    assert fetch.verify([CAPTION])[0].state == "whole"


def test_the_sum_that_the_hub_states_is_checked(file_server, here):
    serve(file_server, LIGHTNING, {"sdxl_lightning_4step_unet.safetensors": DATA})
    address = next(path for path in file_server.files if path.endswith("unet.safetensors"))
    file_server.files[address] = DATA[:-1] + bytes([DATA[-1] ^ 1])
    done = pulled(file_server, LIGHTNING)
    assert done.returncode == 13
    assert f"expected {hashlib.sha256(DATA).hexdigest()}" in done.stderr
    assert registry.absence(registry.entry(LIGHTNING)) is not None


def test_the_registry_outranks_the_hub(file_server, here):
    serve(file_server, "eva02-clip-l", {"open_clip_model.safetensors": DATA})
    done = pulled(file_server, "eva02-clip-l")
    assert done.returncode == 13
    assert "expected f753bca0e8327f77e8845b0af2510d599c3e4614237007b48078c791f2cf391c" in done.stderr
    assert not any("/resolve/" in request.path for request in file_server.requests)


def test_a_token_goes_to_the_hub_and_to_nobody_else(file_server, here):
    serve(file_server, LIGHTNING, {"sdxl_lightning_4step_unet.safetensors": DATA})
    address = next(path for path in file_server.files if path.endswith("unet.safetensors"))
    file_server.files["/blob"] = DATA
    other = file_server.url.replace("127.0.0.1", "localhost")  # as the hub leads to its storage
    file_server.redirects[address] = f"{other}/blob"
    assert pulled(file_server, LIGHTNING, HF_TOKEN="hf_secret").returncode == 0
    told = {request.path: request.authorization for request in file_server.requests}
    assert told[address] == "Bearer hf_secret"
    assert told["/blob"] is None


def test_without_the_hub_it_is_said_how_to_go_on(file_server, here):
    done = pulled(file_server, LIGHTNING, HF_HUB_OFFLINE="1")
    assert done.returncode == 13
    assert "cannot be fetched from the hub" in done.stderr
    assert "BOLID_MIRROR" in done.stderr
    assert "Traceback" not in done.stderr
    assert file_server.requests == []


@pytest.mark.parametrize("state", [401, 403, 404])
def test_a_refusal_of_the_hub_is_one_line(file_server, here, state):
    source = repository(LIGHTNING)
    file_server.states[f"/api/models/{source.repo}/tree/{source.revision}"] = [state] * 10
    done = pulled(file_server, LIGHTNING)
    assert done.returncode == 13, done.stderr
    assert f"{source} cannot be fetched from the hub" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_the_hub_lacks_is_said(file_server, here):
    serve(file_server, CAPTION, {path: SHARDED[path] for path in SHARDED if "00002-of" not in path})
    done = pulled(file_server, CAPTION)
    assert done.returncode == 13
    assert "has no model-00002-of-00002.safetensors" in done.stderr
    assert registry.absence(registry.entry(CAPTION)) is not None


def test_a_snapshot_in_the_hubs_cache_is_linked(file_server, here, tmp_path):
    snapshot(tmp_path / "hf" / "hub", CAPTION, SHARDED)
    fetch.pull([CAPTION])
    assert (registry.local(CAPTION) / "model-00001-of-00002.safetensors").read_bytes() == DATA[:1000]
    assert not (here / CAPTION / "README.md").exists()
    assert fetch.verify([CAPTION])[0].state == "whole"


def test_half_a_snapshot_in_the_hubs_cache_is_not_taken(file_server, here, tmp_path):
    snapshot(tmp_path / "hf" / "hub", CAPTION, {path: SHARDED[path] for path in SHARDED if "00002-of" not in path})
    serve(file_server, CAPTION, SHARDED)
    assert pulled(file_server, CAPTION).returncode == 0
    assert (registry.local(CAPTION) / "model-00002-of-00002.safetensors").read_bytes() == DATA[1000:3000]


def test_a_snapshot_with_wrong_weights_is_not_taken(file_server, here, tmp_path, monkeypatch):
    files = {file.path: b"not these" for file in registry.entry("eva02-clip-l").files}
    snapshot(tmp_path / "hf" / "hub", "eva02-clip-l", files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FetchError, match="cannot be fetched from the hub"):
        fetch.pull(["eva02-clip-l"])
    assert not (here / "eva02-clip-l" / "open_clip_model.safetensors").exists()


def test_a_folder_of_files_is_a_mirror_of_a_repository(here, tmp_path, monkeypatch):
    for path, data in SHARDED.items():
        (tmp_path / "mirror" / CAPTION).mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / CAPTION / path).write_bytes(data)
    monkeypatch.setenv("BOLID_MIRROR", str(tmp_path / "mirror"))
    fetch.pull([CAPTION])
    assert (registry.local(CAPTION) / "spiece.model").read_bytes() == b"pieces"
    assert not (here / CAPTION / "README.md").exists()


def test_an_address_needs_the_list_to_mirror_a_repository(file_server, here, monkeypatch):
    file_server.files |= {f"/{CAPTION}/{path}": data for path, data in SHARDED.items()}
    monkeypatch.setenv("BOLID_MIRROR", file_server.url)
    with pytest.raises(FetchError, match=r"bolid-files\.json does not exist"):
        fetch.pull([CAPTION])
