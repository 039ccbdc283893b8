"""Packed shards of drawn people for the tests of the encoder: body shape by identity, pose and colours by photo."""

import hashlib
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bolid.shards import PackConfig, pack
from bolid.workspace import Workspace
from PIL import Image, ImageDraw


def person(identity: int, photo: int, size: tuple[int, int], measured: bool) -> tuple[bytes, np.ndarray]:
    """A JPEG and its keypoints `[17, 3]`, zeros when not `measured`."""
    shape = np.random.default_rng(identity).uniform(0.6, 1.4, 8)
    rng = np.random.default_rng((identity, photo))
    width, height = size
    unit = height / 10
    hips = np.array([width * rng.uniform(0.45, 0.55), height * rng.uniform(0.5, 0.55)])
    shoulders = hips - [0, 2.2 * unit * shape[0]]
    points = np.zeros((17, 2))
    for side, sign in ((0, 1), (1, -1)):
        points[5 + side] = shoulders + np.array([sign * 0.8 * unit * shape[1], 0])
        points[11 + side] = hips + np.array([sign * 0.5 * unit * shape[2], 0])
        for start, first, second in ((5, 1.2 * shape[3], 1.1 * shape[4]), (11, 1.8 * shape[5], 1.7 * shape[6])):
            angle = sign * rng.uniform(0.1, 0.9 if start == 5 else 0.4)
            step = unit * np.array([np.sin(angle), np.cos(angle)])
            points[start + 2 + side] = points[start + side] + first * step
            points[start + 4 + side] = points[start + 2 + side] + second * step
    picture = Image.new("RGB", size, tuple(rng.integers(150, 255, 3)))
    draw = ImageDraw.Draw(picture)
    clothes, skin, girth = tuple(rng.integers(0, 140, 3)), (200, 150, 120), shape[7] * unit * 0.6
    for side in (0, 1):
        for start in (5, 11):
            chain = [tuple(points[start + step + side]) for step in (0, 2, 4)]
            draw.line(chain, skin, round(girth), joint="curve")
    draw.polygon([tuple(points[i]) for i in (5, 6, 12, 11)], clothes)
    draw.line([tuple(shoulders), tuple(hips)], clothes, round(girth * 1.5))
    head = shoulders - [0, 0.8 * unit]
    draw.ellipse([*(head - 0.5 * unit), *(head + 0.5 * unit)], skin)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    confidence = np.array([[0.0]] * 5 + [[0.9]] * 12)
    return file.getvalue(), np.concatenate([points, confidence], 1) * float(measured)


def pack_people(
    root: Path,
    identities: int,
    photos: int,
    size: tuple[int, int] = (96, 128),
    measured: bool = False,
    box: list[float] | None = None,
) -> Path:
    """Write a curated workspace and pack it; return the folder of the shards; no `box`: the picture."""
    workspace = Workspace(root)
    rows: list[dict[str, Any]] = []
    for identity in range(identities):
        for photo in range(photos):
            data, keypoints = person(identity, photo, size, measured)
            sha256 = hashlib.sha256(data).hexdigest()
            workspace.image(sha256, "jpg").parent.mkdir(parents=True, exist_ok=True)
            workspace.image(sha256, "jpg").write_bytes(data)
            row = {"sha256": sha256, "identity": f"person_{identity:03d}", "format": "jpeg", "bytes": len(data)}
            row |= {"keep": True, "width": size[0], "height": size[1]}
            if measured:
                row |= {
                    "keypoints": keypoints.tolist(),
                    "person_box": box or [0.0, 0.0, float(size[0]), float(size[1])],
                    "pose_confidence": 0.9,
                    "pose_model": "drawn",
                }
            rows.append(row)
    workspace.curated_table.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), workspace.curated_table)
    pack(workspace, PackConfig(split=(0.6, 0.4, 0.0)))
    return workspace.shards


if __name__ == "__main__":
    pack_people(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), (1000, 1400))
