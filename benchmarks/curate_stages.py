"""One contender of the race over the CPU's stages: bolid's stages 1, 2 and 6, or nothing but a full decode.

python curate_stages.py bolid|decode FOLDER PROCESSES; prints the seconds from the first process that is started to the
end, without the imports of this one. For bolid, the seconds that hashing the files took before stand on the line above:
a crawl has the hashes already, and exact duplicates are found by them.

Stage 6 measures the boxes of people and faces; the benchmark gives it one of each for every photo, as large as on
photos of whole people, because what finds them is not raced here.
"""

import hashlib
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
from bolid.curation.engine import Item, run_stages
from bolid.curation.stage import StageKey, score_batch
from bolid.curation.stages.decode import DecodeStage
from bolid.curation.stages.duplicates import PerceptualHashStage
from bolid.curation.stages.quality import QualityStage
from PIL import Image

PERSON, FACE = [300.0, 150.0, 840.0, 1455.0], [500.0, 180.0, 644.0, 360.0]  # of 1200 x 1500


class Boxes:
    """Gives the boxes of one person and one face for every photo."""

    key = StageKey("boxes", version=1)
    schema = pa.schema([(name, pa.list_(pa.float32())) for name in ("pose_boxes", "face_boxes")])
    schema = pa.schema([("sha256", pa.string()), *schema])
    needs = ()

    def setup(self, reader: object) -> None:
        """Nothing to load."""

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the same boxes for each row."""
        rows = [{"sha256": s, "pose_boxes": PERSON, "face_boxes": FACE} for s in batch["sha256"].to_pylist()]
        return score_batch(self.schema, rows)


def ours(paths: list[Path], processes: int) -> float:
    """Hash the files, as an intake does, and run the stages into an empty ledger; return the seconds of the latter."""
    begun = time.perf_counter()
    items = [Item(hashlib.sha256(path.read_bytes()).hexdigest(), str(path)) for path in paths]
    print(f"\n{time.perf_counter() - begun}")
    boxes = Boxes()
    stages = [DecodeStage(), PerceptualHashStage(), boxes, QualityStage([boxes])]
    with tempfile.TemporaryDirectory(dir=paths[0].parent.parent) as ledger:
        begun = time.perf_counter()
        found = run_stages(stages, items, Path(ledger), processes)
        seconds = time.perf_counter() - begun
    if found.failed or found.computed != len(paths):
        raise SystemExit(f"{found.computed} of {len(paths)} photos scored, {len(found.failed)} failed")
    return seconds


def decoded(path: Path) -> None:
    """Decode a photo fully."""
    with Image.open(path) as photo:
        photo.load()


def bare(paths: list[Path], processes: int) -> float:
    """Decode all photos, each process in runs of 16, and return the seconds."""
    begun = time.perf_counter()
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for _ in pool.map(decoded, paths, chunksize=16):
            pass
    return time.perf_counter() - begun


def main() -> None:
    """Run one contender."""
    name, folder, processes = sys.argv[1:]
    paths = sorted(Path(folder).glob("*.jpg"))
    print({"bolid": ours, "decode": bare}[name](paths, int(processes)))


if __name__ == "__main__":
    main()
