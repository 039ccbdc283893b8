"""Packed shards of made-up people and an untrained body encoder, for the tests of adapter, generation and evaluation.

Each person is a bar of their own colour and width, so that people can be told apart and no photo of anyone is needed.
"""

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from bolid.models.body_config import BodyConfig
from bolid.models.body_encoder import random_init
from bolid.models.identity_bank import IdentityBank
from bolid.shards import PackConfig, pack
from bolid.workspace import Workspace
from PIL import Image

torch.set_num_threads(1)  # networks this small only wait for their threads

BODY = BodyConfig(width=24, height=32, latent=16, channels=(8, 16))


def photo(person: int, number: int) -> bytes:
    draw = np.random.default_rng([person, number])
    pixels = draw.integers(90, 160, (64, 48, 3), dtype=np.uint8)
    colour = np.random.default_rng(person).integers(0, 255, 3, dtype=np.uint8)
    left = int(draw.integers(0, 20))
    pixels[8:60, left : left + 8 + 2 * person] = colour
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def row(workspace: Workspace, person: int, number: int) -> dict[str, object]:
    data = photo(person, number)
    sha256 = hashlib.sha256(data).hexdigest()
    path = workspace.image(sha256, "png")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    face = np.random.default_rng([person, 7]).normal(size=512)
    return {
        "sha256": sha256,
        "identity": f"person_{person:03d}",
        "identity_name": f"Person {person}",
        "format": "png",
        "bytes": len(data),
        "keep": True,
        "caption": "a person in front of a wall" if number else "",
        "face_embedding": (face / np.linalg.norm(face)).astype(np.float32).tolist(),
    }


def shards(folder: Path, people: int = 8, photos: int = 4) -> Path:
    """Pack `people` × `photos`; about a quarter of the people each go to val and test."""
    workspace = Workspace(folder / "work")
    rows = [row(workspace, person, number) for person in range(people) for number in range(photos)]
    pq.write_table(pa.Table.from_pylist(rows), workspace.curated_table)
    pack(workspace, PackConfig(split=(0.5, 0.25, 0.25)))
    return workspace.shards


def body_run(folder: Path) -> Path:
    """Write an encoder, a decoder and a bank as a VAE run exports them."""
    encoder, decoder = random_init(BODY)
    encoder.save(folder)
    decoder.save(folder)
    latents = torch.randn(3, BODY.latent, generator=torch.Generator().manual_seed(0))
    bank = IdentityBank([0, 1, 2], ["person_000", "person_001", "person_002"], [4, 4, 4], latents, latents * 0)
    bank.save(folder)
    return folder
