"""Curation of very many photos whose scores are in the ledger already: synthetic rows, all group stages, the report.

python curate_rows.py make WORKSPACE PHOTOS     writes images.parquet and the ledger; photos are links to tiny files
python curate_rows.py curate WORKSPACE          prints the seconds of `curate` and the peak memory of the process, MB:
                                                in all, and without pages of files, which the kernel may drop

The rows are of people with 20 photos each: hashes at random, every tenth a near copy of another of the same person, a
near copy and the same bytes in a neighbour's gallery now and then; one person in each photo, with a face in three of
four whose embedding is the person's plus noise.
"""

import hashlib
import io
import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bolid.curation import run
from bolid.curation.config import CurateConfig
from bolid.workspace import Workspace
from PIL import Image

PHOTOS_EACH = 20
FILES = 64
PART = 16  # photos a part of the ledger, as the engine writes them
CONFIG = CurateConfig(min_photos=4, pose_model="demo-pose", face_model="demo-face", caption="none")


def make(workspace: Workspace, photos: int) -> None:
    """Write everything that `curate` reads."""
    chance = np.random.default_rng(7)
    shas = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(photos)]
    people = [f"person_{number // PHOTOS_EACH:06d}" for number in range(photos)]
    for number in range(PHOTOS_EACH, photos, 37 * PHOTOS_EACH):
        shas[number] = shas[number - 1]  # the same bytes at the end of one gallery and at the head of the next
    _files(workspace, shas, chance)
    text = dict.fromkeys(("identity", "identity_name", "url", "page_url"), people)
    numbers = {"width": [1200] * photos, "height": [1500] * photos, "bytes": [1000] * photos}
    images = pa.table({"sha256": shas, **text, **numbers, "format": ["JPEG"] * photos})
    pq.write_table(images, workspace.images_table)
    found, _ = run._networks(CONFIG, tell=False)
    stages = run._stages(found, CONFIG, "cpu")
    first = {sha256: number for number, sha256 in reversed(list(enumerate(shas)))}
    unique = list(dict.fromkeys(shas))
    owners = np.array([first[sha256] for sha256 in unique]) // PHOTOS_EACH
    hashes = chance.integers(0, 2**64, len(unique), dtype=np.uint64)
    for at in range(10, len(unique), 10):
        hashes[at] = hashes[at - 1] ^ np.uint64(5)
    centres = chance.standard_normal((photos // PHOTOS_EACH + 1, 512)).astype(np.float32)
    for begin in range(0, len(unique), PART):
        end = min(begin + PART, len(unique))
        columns = _scores(unique[begin:end], hashes[begin:end], centres[owners[begin:end]], chance)
        for stage in stages:
            lacking = {name: pa.nulls(end - begin) for name in stage.schema.names if name not in columns}
            known = columns | lacking
            rows = [pa.array(known[field.name], field.type) for field in stage.schema]
            # As `ledger.write_part`, less the sync of each file, which would take most of the time here.
            folder = workspace.curation / stage.key.name / stage.key.fingerprint
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(rows, schema=stage.schema), folder / f"part-{begin:016x}.parquet")


def _files(workspace: Workspace, shas: list[str], chance: np.random.Generator) -> None:
    originals = []
    for number in range(FILES):
        path = workspace.root / "originals" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        soft = Image.fromarray(chance.integers(0, 256, (5, 4, 3), np.uint8)).resize((96, 120))
        soft.save(file, "JPEG")
        path.write_bytes(file.getvalue())
        originals.append(path)
    for number, sha256 in enumerate(dict.fromkeys(shas)):
        path = workspace.photo(sha256, "JPEG")
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(originals[number % FILES], path)


def _scores(shas: list[str], hashes: np.ndarray, centres: np.ndarray, chance: np.random.Generator) -> dict[str, object]:
    """Return a column of each stage for some photos; every fourth has no face."""
    count = len(shas)
    faces = centres + 0.7 * chance.standard_normal(centres.shape).astype(np.float32)
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    seen = np.arange(count) % 4 != 3
    heights = np.linspace(200, 1400, 17)
    pose = np.stack([600 + 120 * np.sin(np.arange(17)), heights, np.full(17, 0.9)], axis=1).ravel()
    sharp = 10 ** chance.uniform(1, 3, count)

    def where_seen(row: object) -> list[object]:
        return [row if there else [] for there in seen]

    return {
        "sha256": shas,
        "defect": [None] * count,
        "decoded_width": [1200] * count,
        "decoded_height": [1500] * count,
        "sharpness": sharp.tolist(),
        "phash": pa.array(hashes),
        "pose_boxes": [[300.0, 150.0, 900.0, 1450.0]] * count,
        "pose_scores": [[0.95]] * count,
        "pose_keypoints": [(pose + chance.normal(0, 0.01, pose.shape)).tolist() for _ in range(count)],
        "face_boxes": where_seen([520.0, 160.0, 700.0, 380.0]),
        "face_scores": where_seen([0.9]),
        "face_landmarks": where_seen([560.0, 220.0, 660.0, 220.0, 610.0, 270.0, 570.0, 320.0, 650.0, 320.0]),
        "face_embeddings": [face.tolist() if there else [] for face, there in zip(faces, seen, strict=True)],
        "people_sharpness": [[float(value)] for value in sharp],
        "people_exposure": [[0.5]] * count,
        "faces_sharpness": where_seen([40.0]),
        "faces_exposure": where_seen([0.5]),
    }


class Peak:
    """The largest memory of this process while it is open, MB (10^6), sampled every 5 ms; Linux only.

    Attributes:
        anonymous: what the process owns.
        total: pages of files besides, such as those of scores that lie in mapped files.
    """

    def __enter__(self) -> "Peak":
        self.anonymous = self.total = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._over.wait(0.005):
            anonymous = memory_mb("RssAnon")
            self.anonymous = max(self.anonymous, anonymous)
            self.total = max(self.total, anonymous + memory_mb("RssFile") + memory_mb("RssShmem"))

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


def memory_mb(what: str) -> float:
    """Return a figure of /proc/self/status, MB (10^6)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(what))


def main() -> None:
    """Make or curate."""
    workspace = Workspace(Path(sys.argv[2]))
    if sys.argv[1] == "make":
        make(workspace, int(sys.argv[3]))
        return
    began, anonymous = memory_mb("VmRSS"), memory_mb("RssAnon")
    begun, worked = time.perf_counter(), time.process_time()
    with Peak() as peak:
        summary = run.curate(workspace, CONFIG, 1)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - worked
    if summary.computed or summary.failed:
        raise SystemExit(f"{summary.computed} photos were scored and {summary.failed} failed; the ledger has all")
    size = {"seconds": seconds, "cpu_s": cpu, "peak_mb": peak.total, "before_mb": began}
    size |= {"anonymous_peak_mb": peak.anonymous, "anonymous_before_mb": anonymous}
    print("\n" + json.dumps(size | {"kept": summary.kept, "offered": summary.offered}))


if __name__ == "__main__":
    main()
