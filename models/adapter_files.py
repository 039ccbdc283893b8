"""Adapter weights on disk: safetensors files that equal adapters share to the byte, and stock loaders read aligned."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import ModelError
from .download import file_sha256

ALIGNMENT = 64  # bytes; what a CPU's vector kernels want


def save_aligned(tensors: dict[str, Tensor], header: dict[str, str], path: Path) -> None:
    """Save with the header in a fixed order, padded by spaces so that the data begin at a multiple of 64 bytes.

    The library orders metadata at random, and equal adapters should have equal sha256. Stock loaders compute on the
    mapped file itself, and matrix products over unaligned memory are rounded otherwise (measured: 1e-6 in the
    picture); aligned, their picture is ours to the bit.
    """
    data = memoryview(save(tensors, header))
    begin = 8 + int.from_bytes(data[:8], "little")
    entries = {**json.loads(bytes(data[8:begin])), "__metadata__": dict(sorted(header.items()))}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        file.write(data[begin:])


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a file.

    Raises:
        ModelError: it is damaged.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is damaged ({error}); export the adapter again") from error


def require_encoder(header: dict[str, str], adapter: Path, encoder: Path) -> None:
    """Check that an adapter is used with the body encoder that it was trained with.

    Args:
        header: metadata of the adapter.
        adapter: its folder, for the message.
        encoder: file with the encoder's weights.

    Raises:
        ModelError: it is another one.
    """
    expected = header.get("body_encoder_sha256")
    if expected and (not encoder.exists() or file_sha256(encoder) != expected):
        raise ModelError(
            f"{encoder.parent} is not the body encoder that {adapter} was trained with; "
            "give the run named in its training with --body RUN"
        )
