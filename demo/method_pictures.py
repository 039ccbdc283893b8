"""What the adapter does to generated bodies: the shape that the judge sees, with body and face on, face alone, or off.

The same prompts, noises and people in all settings; the judge was never used in training. Shapes: P people, M pictures
of each, S measures.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .. import atomic, progress
from ..models import sdxl  # noqa: F401 - its import of diffusers is silent, so it must be the first
from ..models.adapter import AdapterBundle
from ..models.download import file_sha256
from ..models.lightning import load_few_step_unet
from ..models.sampling import FEW_STEPS, sample
from ..models.sdxl import load_base
from ..training.adapter_samples import grid
from ..training.posteriors import Posteriors
from . import people as world
from .judges import SIZE, ShapeJudge
from .method_body import visible
from .method_data import Example, face_embedding, shapes
from .method_probes import bootstrap
from .method_report import Measured

BASE, FEW_STEP = "demo-base", "demo-base-lightning"
PROMPTS = (
    "A full-body photo of a person wearing a short-sleeved grey T-shirt, blue jeans and white sneakers, standing, "
    "facing the camera, in front of a white studio backdrop",
    "A full-length photo of a person wearing a red tank top, black leggings and black shoes, standing still, "
    "facing the camera, in a park",
    "A full-body photo of a person dressed in a navy sweater, beige trousers and brown boots, taking a step, "
    "facing the camera, on a beach",
    "A full-length photo, facing the camera: a person with both arms raised in front of a brick wall, wearing a "
    "sleeveless green dress and white shoes",
)
SETTINGS: dict[str, dict[str, float]] = {
    "off": {"face": 0.0, "body": 0.0},
    "face only": {"face": 1.0, "body": 0.0},
    "body on": {"face": 1.0, "body": 1.0},
}
SHEET_FILE, SHEET_PEOPLE = "pictures.png", 6
_CENSUS = 1000

Pictures = NDArray[np.uint8]
Array = NDArray[np.float64]


def figures(
    adapter: Path, known: Posteriors, examples: Sequence[Example], people: int, seeds: int, out: Path
) -> list[Measured]:
    """Generate pictures of the first held-out people and return the errors of their shapes.

    Args:
        adapter: export of an adapter run.
        known: posteriors of the held-out photos.
        examples: what is true of each, in the same order.
        people: P.
        seeds: noises of each prompt; M = prompts × seeds.
        out: folder for the pictures; those of an earlier run with the same adapter are read.
    """
    rows = list(known.rows_by_identity().values())[:people]
    made = pictures(adapter, known, rows, examples, seeds, out)
    firsts = [examples[int(each[0])] for each in rows]
    truth = shapes(firsts)
    photos = [np.stack([_photo(examples[int(i)]) for i in each]) for each in rows]
    shown = {name: [made[name][i, 0] for i in range(len(rows))][:SHEET_PEOPLE] for name in SETTINGS}
    sheet = {**shown, "photo": [each[-1] for each in photos][:SHEET_PEOPLE]}
    _write_sheet(out / SHEET_FILE, {name: np.stack(cells) for name, cells in sheet.items()})
    judge = ShapeJudge()
    seen = {name: judged(judge, made[name]) for name in SETTINGS}
    return compared(seen, judged(judge, photos), truth, spread(firsts[0].seed), made["off"].shape[1])


def compared(seen: Mapping[str, Array], photos: Array, truth: Array, unit: Array, pictures: int) -> list[Measured]:
    """Return the figures of judged shapes.

    Args:
        seen: shapes [P, S] that the judge saw in the pictures of each setting, in metres.
        photos: those that it saw in photos of the same people.
        truth: [P, S] in metres.
        unit: spread [S] of each measure over people.
        pictures: M.
    """
    each = {name: error(shape, truth, unit) for name, shape in seen.items()}
    n = len(truth)
    note = f"judged from {pictures} pictures a person; root mean square over the visible measures, each in its spread"
    rows = []
    for name, values in each.items():
        mean, low, high = bootstrap(values)
        rows.append(Measured(f"shape error, {name}", mean, n, note, low, high))
    for better, worse in (("body on", "face only"), ("face only", "off")):
        mean, low, high = bootstrap(each[better] - each[worse])
        rows.append(
            Measured(
                f"shape error, {better} minus {worse}",
                mean,
                n,
                "pairs of one person",
                low,
                high,
                aim=0.0,
                better="lower",
            )
        )
    if n > 1:
        others = [error(seen["body on"], np.roll(truth, k, axis=0), unit) for k in range(1, n)]
        mean, low, high = bootstrap(np.mean(others, axis=0))
        rows.append(
            Measured(
                "shape error, body on, of other people", mean, n, "the same pictures against others' shapes", low, high
            )
        )
    mean, low, high = bootstrap(error(photos, truth, unit))
    rows.append(Measured("shape error, photos", mean, n, "what the judge sees in photos of the same people", low, high))
    return rows


def error(seen: Array, truth: Array, unit: Array) -> Array:
    """Return the root mean square [P] over the visible measures of (seen − truth) / unit."""
    shown = visible()
    return np.asarray(np.sqrt((((seen - truth) / unit)[:, shown] ** 2).mean(1)))


def spread(seed: int) -> Array:
    """Return how far each measure [S] spreads over the people of a world, in metres."""
    drawn = [world.make_person(seed, 1_000_000 + i).shape for i in range(_CENSUS)]
    return np.asarray(np.stack(drawn).astype(np.float64).std(0))


def judged(judge: ShapeJudge, pictures: Sequence[Pictures] | Pictures) -> Array:
    """Return the shape [P, S] that the judge sees in all pictures of each person together."""
    return np.stack([judge.together(np.ascontiguousarray(each)) for each in pictures]).astype(np.float64)


def pictures(
    adapter: Path, known: Posteriors, rows: Sequence[Tensor], examples: Sequence[Example], seeds: int, out: Path
) -> dict[str, Pictures]:
    """Return pictures [P, M, 128, 128, 3] of each setting; with the adapter off everybody's are the same."""
    bundle = AdapterBundle.load(adapter)
    weights = "-".join(file_sha256(adapter / f"{name}.safetensors")[:12] for name in bundle.conditions)
    folder = out / "pictures" / f"{weights}-{seeds}"
    pipe = load_base(BASE)
    pipe.unet = load_few_step_unet(FEW_STEP, pipe.unet, BASE, FEW_STEPS)
    prompts = [prompt for prompt in PROMPTS for _ in range(seeds)]
    noises = list(range(seeds)) * len(PROMPTS)

    def drawn(setting: str, body: Tensor, face: Tensor) -> Pictures:
        given = {"face": face.expand(len(prompts), -1), "body": body.expand(len(prompts), -1)}
        bundle.set_scale(**SETTINGS[setting])
        embeddings = [given[name] for name in bundle.conditions]
        return sample(pipe, prompts, noises, (SIZE, SIZE), embeddings, FEW_STEPS)

    made: dict[str, list[Pictures]] = {name: [] for name in SETTINGS}
    with bundle.installed(pipe.unet), progress.bar("pictures", len(rows), "people") as bar:
        for each in rows:
            first = examples[int(each[0])]
            body, _ = known.of_rows(each)
            face = torch.from_numpy(face_embedding(first.seed, first.identity))[None]
            for name in SETTINGS:
                who = "nobody" if name == "off" else f"{first.seed}-{first.identity:05d}"
                file = folder / f"{name.replace(' ', '-')}-{who}.npy"
                if not file.exists():
                    with atomic.replacing(file) as temporary, temporary.open("wb") as stream:
                        np.save(stream, drawn(name, body, face))
                made[name].append(np.load(file))
            bar.advance()
    return {name: np.stack(each) for name, each in made.items()}


def _photo(example: Example) -> Pictures:
    return np.asarray(Image.open(io.BytesIO(example.jpeg)).convert("RGB"), np.uint8)


def _write_sheet(path: Path, columns: dict[str, Pictures]) -> None:
    count = len(next(iter(columns.values())))
    with atomic.replacing(path) as temporary:
        grid(columns, [f"person {i + 1}" for i in range(count)]).save(temporary, "PNG")
