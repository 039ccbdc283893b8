"""Do other readers accept our tars as they are? Energon's `prepare` and `lint`, and litData's `iter_webdataset_tar`.

    python benchmarks/shards_readers.py --peers ~/.cache/bolid-peers

A nightly target: each library is installed into an environment of its own under `--peers`. One that does not install
is skipped with a printed line; one that reads something else than what was packed ends this with exit code 1.
(webdataset, HF `datasets` and `tarfile` are in the tests: tests/shards/test_readers.py.)
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import shards_peers as peers
from bolid.shards import read_index, read_manifest
from shards_material import make

PEOPLE, PHOTOS = 4, 6

LITDATA = """
import hashlib, json, sys, warnings
warnings.simplefilter("ignore")
from litdata.processing.media_folder import iter_webdataset_tar
found = {}
for path in sys.argv[1:]:
    for sample in iter_webdataset_tar(path):
        parts = sorted(name for name in sample if not name.startswith("__"))
        found[sample["__key__"]] = [parts, hashlib.sha256(sample["jpg"]).hexdigest()]
print(json.dumps(found))
"""


def energon(python: Path, shards: Path, copy: Path) -> list[str]:
    """Prepare and lint a copy of a dataset; return what is wrong."""
    shutil.copytree(shards, copy)
    command = str(python.with_name("energon"))
    steps = {
        "prepare": [
            *("--non-interactive", "--force-overwrite", "--split-ratio=1,0,0"),
            *("--sample-type=CaptioningSample", '--field-map={"image": "jpg", "caption": "txt"}'),
        ],
        "lint": ["--split-parts=train"],
    }
    for step, options in steps.items():
        done = _run([command, step, str(copy), *options])
        print(f"  energon {step}: exit code {done.returncode}")
        if done.returncode:
            return [f"energon {step}: {(done.stderr or done.stdout).strip()[-2000:]}"]
    counts = json.loads((copy / ".nv-meta" / ".info.json").read_text())["shard_counts"]
    wanted = {name: entry.samples for name, entry in read_manifest(shards).shards.items()}
    print(f"  energon counts {counts}")
    return [] if counts == wanted else [f"energon counts {counts}, the manifest {wanted}"]


def litdata(python: Path, shards: Path) -> list[str]:
    """Read all samples; return what is wrong."""
    done = _run([str(python), "-c", LITDATA, *map(str, sorted(shards.glob("*.tar")))])
    if done.returncode:
        return [f"litdata: {done.stderr.strip()[-2000:]}"]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    rows = {row["key"]: row["sha256"] for row in read_index(shards).to_pylist()}
    print(f"  litdata reads {len(found)} samples of {len(rows)}, parts {next(iter(found.values()))[0]}")
    return [] if {key: digest for key, (_, digest) in found.items()} == rows else ["litdata reads other samples"]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)


def main() -> int:
    """Run both; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="folder for the environments of the libraries")
    given = parser.parse_args()
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bolid-readers-") as name:
        root = Path(name)
        shards = make(root, PEOPLE, PHOTOS).shards
        if python := peers.install(given.peers, "megatron-energon"):
            print(f"megatron-energon {peers.version(python, 'megatron-energon')}")
            problems += energon(python, shards, root / "energon")
        if python := peers.install(given.peers, "litdata"):
            print(f"litdata {peers.version(python, 'litdata')}")
            problems += litdata(python, shards)
    for problem in problems:
        print(f"FAILED {problem}")
    print("all that were tried read what was packed" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
