"""CLIP: picture and text features of one space, from a folder in Hugging Face's `CLIPModel` layout.

Loads `openai/clip-vit-large-patch14` and the demo's small CLIP alike. Pictures are prepared as the folder's
`preprocessor_config.json` says, without torchvision.

Shapes: N pictures or texts, D features.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, MissingExtraError, ModelError

CLIP = "clip-vit-large-patch14"
FILES = ("config.json", "preprocessor_config.json", "tokenizer_config.json")
BATCH = 32
RESAMPLINGS = {2: "bilinear", 3: "bicubic"}
"""Names in torch of Pillow's filters."""


class ClipScorer:
    """Features of pictures and texts, of length 1: their dot product is CLIP's similarity.

    Args:
        folder: config.json, model.safetensors, preprocessor_config.json and the tokenizer's files.
        device: where the towers run; features come back to the CPU.

    Raises:
        ModelError: the folder or a file of it is missing, damaged, or does not hold all of a CLIP model.
        MissingExtraError: transformers is not installed.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        _check_files(folder)
        model_class, tokenizer_class, processor_class = _classes()
        try:
            model, report = model_class.from_pretrained(
                folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
            self._tokenizer = tokenizer_class.from_pretrained(folder, local_files_only=True)
            self._processor = processor_class.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # a damaged file raises whatever its parser raises
            raise ModelError(f"{folder} cannot be loaded as CLIP ({_last_line(error)}); {_advice()}") from error
        if report["missing_keys"]:
            raise ModelError(
                f"{folder} lacks {len(report['missing_keys'])} tensors of a CLIP model, for instance "
                f"{min(report['missing_keys'])}; {_advice()}"
            )
        self._device = torch.device(device)
        self._model = model.to(self._device).eval().requires_grad_(False)
        self._length = int(model.config.text_config.max_position_embeddings)

    @property
    def dim(self) -> int:
        """D, the number of features."""
        return int(self._model.config.projection_dim)

    @torch.inference_mode()
    def image_features(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Return the features float32 `[N, D]` of pictures uint8 `[H, W, 3]` RGB of any sizes.

        Raises:
            DataError: an array of another type or shape.
        """
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise DataError(f"CLIP takes uint8 pictures [H, W, 3], not {image.dtype} {list(image.shape)}")
        parts = [self._image_batch(list(images[i : i + BATCH])) for i in range(0, len(images), BATCH)]
        return torch.cat(parts) if parts else torch.zeros(0, self.dim)

    def image_features_differentiable(self, images: Tensor) -> Tensor:
        """Return the features `[N, D]` of pictures `[N, 3, H, W]` RGB in 0..1, with a gradient to their pixels.

        Resized, cropped and normalised in torch as the folder's preprocessor configuration says, in float32 on the
        scorer's device; the bytes that `image_features` rounds to in between are not rounded here.

        Raises:
            ModelError: the configuration asks for a resampling that torch does not have.
        """
        with torch.autocast(images.device.type, enabled=False):
            pixels = _prepared(images.float(), self._processor)
            pooled = self._model.vision_model(pixel_values=pixels).pooler_output
            return F.normalize(self._model.visual_projection(pooled), dim=-1)

    def place(self, device: torch.device) -> None:
        """Move both towers."""
        self._device = device
        self._model.to(device)

    @torch.inference_mode()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Return the features float32 `[N, D]` of texts; what is longer than CLIP's context is cut."""
        parts = [self._text_batch(list(texts[i : i + BATCH])) for i in range(0, len(texts), BATCH)]
        return torch.cat(parts) if parts else torch.zeros(0, self.dim)

    def _image_batch(self, images: list[NDArray[np.uint8]]) -> Tensor:
        pixels = self._processor(images=images, input_data_format="channels_last", return_tensors="pt")["pixel_values"]
        pooled = self._model.vision_model(pixel_values=pixels.to(self._device)).pooler_output
        return F.normalize(self._model.visual_projection(pooled), dim=-1).cpu()

    def _text_batch(self, texts: list[str]) -> Tensor:
        tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=self._length, return_tensors="pt")
        pooled = self._model.text_model(
            input_ids=tokens["input_ids"].to(self._device), attention_mask=tokens["attention_mask"].to(self._device)
        ).pooler_output
        return F.normalize(self._model.text_projection(pooled), dim=-1).cpu()


def _prepared(images: Tensor, processor: Any) -> Tensor:  # noqa: ANN401 - transformers' processor has no types
    """Resize, crop and normalise pictures `[N, 3, H, W]` in 0..1 as a CLIP image processor does."""
    height, width = images.shape[-2:]
    if processor.do_resize:
        mode = RESAMPLINGS.get(int(processor.resample))
        if mode is None:
            raise ModelError(
                f"CLIP's preprocessor resamples by Pillow's filter {int(processor.resample)}, of which torch has no "
                f"differentiable form; choose a CLIP with bilinear or bicubic resampling, such as {CLIP}"
            )
        to = _resized(height, width, processor.size)
        if to != (height, width):
            images = F.interpolate(images, to, mode=mode, antialias=True).clamp(0, 1)  # Pillow clips overshoot too
        height, width = to
    if processor.do_center_crop:
        side = processor.crop_size["height"], processor.crop_size["width"]
        if side[0] > height or side[1] > width:
            raise ModelError(f"CLIP's preprocessor crops {side} out of pictures of {(height, width)}; choose another")
        top, left = (height - side[0]) // 2, (width - side[1]) // 2
        images = images[..., top : top + side[0], left : left + side[1]]
    if not processor.do_normalize:
        return images
    mean, deviation = (images.new_tensor(each)[:, None, None] for each in (processor.image_mean, processor.image_std))
    return (images - mean) / deviation


def _resized(height: int, width: int, size: Any) -> tuple[int, int]:  # noqa: ANN401 - a dictionary with attributes
    """Return height and width after resizing: the shorter side given, or both."""
    asked = dict(size)
    if asked.get("shortest_edge"):
        shorter = min(height, width)
        edge = int(asked["shortest_edge"])
        return int(edge * height / shorter), int(edge * width / shorter)
    return int(asked["height"]), int(asked["width"])


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError(f"{folder} does not exist; {_advice()}")
    missing = [name for name in FILES if not (folder / name).exists()]
    if not any((folder / name).exists() for name in ("model.safetensors", "model.safetensors.index.json")):
        missing.append("model.safetensors")
    # transformers makes an empty tokenizer where there is no vocabulary.
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json")):
        missing.append("tokenizer.json")
    if missing:
        raise ModelError(f"{folder} is no CLIP model ({', '.join(missing)} missing); {_advice()}")


def _classes() -> tuple[Any, Any, Any]:
    try:
        from transformers import CLIPModel, CLIPTokenizer
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", "train") from error
    try:
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    except ImportError:  # until it got that name, CLIPImageProcessor itself needed no torchvision
        from transformers import CLIPImageProcessor

        return CLIPModel, CLIPTokenizer, CLIPImageProcessor
    return CLIPModel, CLIPTokenizer, CLIPImageProcessorPil


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def _advice() -> str:
    return f"run: bolid models pull {CLIP}"
