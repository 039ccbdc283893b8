"""The format on disk: names, sample keys, the keys of a sample's JSON and the columns of the index.

A sample is one photo and has four parts, adjacent in its tar and in this order (the order of their names):

    i000012_000003.jpg   the picture; original bytes when the original is a JPEG that needs no scaling
    i000012_000003.json  what is known about it, see `META_FIELDS`; the same keys and types in every sample
    i000012_000003.npy   face embedding, float32 [512], zeros where no face was found or looked for
    i000012_000003.txt   caption, UTF-8, empty where there is none

Coordinates are pixels of the stored picture after its EXIF orientation is applied, origin at the top left
corner of the top left pixel. What was not measured is there all the same, as zeros and empty strings, and
`pose_model` says whether the pose was measured.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import pyarrow as pa

FORMAT_NAME = "bolid-shards"
FORMAT_VERSION = 1

SPLITS = ("train", "val", "test")
INDEX_FILE = "index.parquet"
MANIFEST_FILE = "manifest.json"
EXCLUDED_FILE = "excluded.parquet"
CARD_FILE = "README.md"
CROISSANT_FILE = "croissant.json"

KEYPOINTS = 17
"""COCO keypoints of a person."""
FACE_DIMENSIONS = 512

PARTS = ("image", "json", "npy", "txt")
"""The parts of a sample as the index calls them; `image` is the one whose suffix can differ (`--keep-format`)."""

SAMPLE_KEY = re.compile(r"i(\d{6,})_(\d{6,})")
SHARD_NAME = re.compile(rf"({'|'.join(SPLITS)})-(\d{{6,}})\.tar")

META_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "key": "str: key of this sample",
        "identity": "int: number of the person, the same in every split and shard of the dataset",
        "identity_slug": "str: name of the person in addresses and tables",
        "identity_name": "str: name of the person for people",
        "width": "int: pixels, oriented, of the stored picture",
        "height": "int: pixels, oriented, of the stored picture",
        "original_width": "int: pixels, oriented, of the photo as it was found",
        "original_height": "int: pixels, oriented, of the photo as it was found",
        "original_format": "str: format of the photo as it was found, lower case",
        "keypoints": "float [17][3]: x, y in pixels, confidence 0..1 of the COCO keypoints; zeros where not measured",
        "person_box": "float [4]: left, top, right, bottom in pixels; zeros where not measured",
        "face_box": "float [4]: left, top, right, bottom in pixels; zeros where no face",
        "pose_model": "str: network that measured the keypoints; empty when the pose stage did not run",
        "pose_confidence": "float 0..1: mean confidence of the 12 body keypoints; 0 where not measured",
        "has_face": "bool: whether the .npy part holds an embedding",
        "view": "str: front, side, back, …; empty where not measured",
        "framing": "str: portrait, half body, full body, …; empty where not measured",
        "sha256": "str: of the photo as it was found",
        "url": "str: where the photo was found",
        "page_url": "str: page that showed it",
        "fetched_at": "str: when, ISO 8601",
        "etag": "str: of the HTTP answer",
        "robots": "str: what robots rules said at that time",
        "rights": "str: what is known about the rights",
    }
)


def sample_key(identity: int, number: int) -> str:
    """Return the key of the photo `number` of a person: `i000012_000003`."""
    return f"i{identity:06d}_{number:06d}"


def shard_name(split: str, number: int) -> str:
    """Return the file name of a shard: `train-000004.tar`."""
    return f"{split}-{number:06d}.tar"


def sample_digest(parts: Iterable[bytes]) -> bytes:
    """Return the digest of a sample: the first 16 bytes of the sha256 of its parts' sha256, one after the other."""
    return hashlib.sha256(b"".join(parts)).digest()[:DIGEST_BYTES]


DIGEST_BYTES = 16
_SHA256 = pa.binary(32)
_WORD = pa.dictionary(pa.int32(), pa.string())

INDEX_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("identity", pa.int32(), nullable=False),
        pa.field("number", pa.int32(), nullable=False),
        pa.field("identity_slug", _WORD, nullable=False),
        pa.field("split", _WORD, nullable=False),
        pa.field("shard", _WORD, nullable=False),
        pa.field("pack", pa.int16(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("annotations", pa.binary(8), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("pose_confidence", pa.float32(), nullable=False),
        pa.field("has_face", pa.bool_(), nullable=False),
        pa.field("retired", pa.bool_(), nullable=False),
        pa.field("retired_reason", _WORD, nullable=False),
        pa.field("image_suffix", _WORD, nullable=False),
        pa.field("digest", pa.binary(DIGEST_BYTES), nullable=False),
        *(
            field
            for part in PARTS
            for field in (
                pa.field(f"{part}_offset", pa.int64(), nullable=False),
                pa.field(f"{part}_size", pa.int32(), nullable=False),
                pa.field(f"{part}_sha256", _SHA256, nullable=False),
            )
        ),
    ]
)
"""A row a sample, sorted by (identity, number). `pack` counts the packs that appended to the dataset; offsets are
those of the content (not of the tar header); `<part>_sha256` is binary, `sha256` the hexadecimal digest of the photo
as it was found, `annotations` a digest of what the curated table said about it. `digest` is `sample_digest`: what a
reader keeps in memory to check bytes, an eighth of the four sha256."""
