"""Captions of photos by BLIP-2, from a folder in Hugging Face's `Blip2ForConditionalGeneration` layout.

Loads `blip2-flan-t5-xl` (a language model that reads and writes: T5) and `blip2-opt-2.7b` (one that goes on writing:
OPT) alike. Photos are prepared as the folder's `preprocessor_config.json` says, without torchvision. Nothing is
downloaded and nothing is drawn by chance: beams are searched, so that one batch gives one answer.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import progress
from ..errors import DataError, MissingExtraError, ModelError, UsageError
from . import registry

USUAL = "blip2-flan-t5-xl"
FILES = ("config.json", "tokenizer_config.json")
PREPARATION = ("preprocessor_config.json", "processor_config.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
VOCABULARY = ("tokenizer.json", "vocab.json", "spiece.model")

BATCH = 8
BEAMS, MAX_TOKENS = 5, 30
"""Width of the beam search, and tokens of a caption at most: the defaults of BLIP-2's published code (LAVIS)."""

_noticed: set[str] = set()


class Captioner:
    """Words for photos, the same ones each time.

    Args:
        folder: config.json, safetensors, preprocessor_config.json and the tokenizer's files.
        device: of torch: cpu, cuda or cuda:N.
        dtype: of the weights; None is bfloat16 on a GPU and float32 on the CPU.
        licence: of the weights, for the notice; None takes that of the registry, else that of the folder's card (a line
            "- Licence: …" in its README.md).

    Raises:
        ModelError: the folder or a file of it is missing, damaged, or does not hold all of a BLIP-2.
        MissingExtraError: transformers is not installed.
        UsageError: a device that torch does not have.
    """

    def __init__(
        self, folder: Path, *, device: str = "cpu", dtype: torch.dtype | None = None, licence: str | None = None
    ) -> None:
        self.folder = folder
        _check_files(folder)
        self._device = _device(device)
        dtype = dtype or (torch.float32 if self._device.type == "cpu" else torch.bfloat16)
        model_class, processor_class, image_class, tokenizer_class = _classes()
        try:
            with _quiet():
                model, report = model_class.from_pretrained(
                    folder, local_files_only=True, use_safetensors=True, dtype=dtype, output_loading_info=True
                )
            pictures = image_class.from_pretrained(folder, local_files_only=True)
            words = tokenizer_class.from_pretrained(folder, local_files_only=True)
            self._processor = processor_class(pictures, words, num_query_tokens=model.config.num_query_tokens)
        except Exception as error:  # a damaged file raises whatever its parser raises
            raise ModelError(f"{folder} cannot be loaded as BLIP-2 ({_last_line(error)}); {_advice(folder)}") from error
        _check_model(folder, model, self._processor, report)
        self._model = model.to(self._device).eval().requires_grad_(False)
        _notice(folder, licence)

    def __call__(self, images: Sequence[NDArray[np.uint8]], prompt: str) -> list[str]:
        """Return a caption for each picture uint8 `[H, W, 3]` RGB; the prompt is not repeated in it.

        Args:
            images: pictures of any sizes; each is scaled to the network's, whatever its aspect.
            prompt: what the language model reads after the picture, and goes on from.

        Raises:
            DataError: an array of another type or shape.
        """
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise DataError(f"BLIP-2 takes uint8 pictures [H, W, 3], not {image.dtype} {list(image.shape)}")
        captions: list[str] = []
        for begin in range(0, len(images), BATCH):
            captions += self._batch(list(images[begin : begin + BATCH]), prompt)
        return captions

    @torch.inference_mode()
    def _batch(self, images: list[NDArray[np.uint8]], prompt: str) -> list[str]:
        inputs = self._processor(
            images=images, text=[prompt] * len(images), input_data_format="channels_last", return_tensors="pt"
        )
        asked: Tensor = inputs["input_ids"].to(self._device)
        written: Tensor = self._model.generate(
            pixel_values=inputs["pixel_values"].to(self._device, self._model.vision_model.dtype),
            input_ids=asked,
            attention_mask=inputs["attention_mask"].to(self._device),
            do_sample=False,
            num_beams=BEAMS,
            max_new_tokens=MAX_TOKENS,
        )
        if not self._model.language_model.config.is_encoder_decoder:
            written = written[:, asked.shape[1] :]  # OPT goes on from what it was asked
        texts: list[str] = self._processor.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bar out of ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError(f"{folder} does not exist; {_advice(folder)}")
    missing = [name for name in FILES if not (folder / name).is_file()]
    # transformers makes an empty tokenizer where there is no vocabulary, and takes other weights where there are none.
    for names in (PREPARATION, WEIGHTS, VOCABULARY):
        if not any((folder / name).is_file() for name in names):
            missing.append(names[0])
    if missing:
        raise ModelError(f"{folder} is no BLIP-2 ({', '.join(missing)} missing); {_advice(folder)}")


def _check_model(folder: Path, model: Any, processor: Any, report: dict[str, Any]) -> None:  # noqa: ANN401
    if report["missing_keys"]:
        raise ModelError(
            f"{folder} lacks {len(report['missing_keys'])} tensors of a BLIP-2, for instance "
            f"{min(report['missing_keys'])}; {_advice(folder)}"
        )
    place = processor.tokenizer.convert_tokens_to_ids(str(processor.image_token))
    if model.config.image_token_index != place:
        raise ModelError(
            f"{folder} does not say which token stands for the picture (config.json: {model.config.image_token_index}, "
            f"the tokenizer: {place}); {_advice(folder)}"
        )


def _device(asked: str) -> torch.device:
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise UsageError(f"unknown device {asked!r}; choose cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"torch cannot use {asked} here; choose cpu")
    return device


def _classes() -> tuple[Any, Any, Any, Any]:
    try:
        from transformers import AutoTokenizer, Blip2ForConditionalGeneration, Blip2Processor
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", "train") from error
    try:
        from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
    except ImportError:  # until it got that name, BlipImageProcessor itself needed no torchvision
        from transformers import BlipImageProcessor

        return Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessor, AutoTokenizer
    return Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessorPil, AutoTokenizer


def _notice(folder: Path, given: str | None) -> None:
    if folder.name in _noticed:
        return
    _noticed.add(folder.name)
    licence = given or _licence(folder)
    progress.say(f"captioner {folder.name}: weights {licence}", model=folder.name, licence=licence)


def _licence(folder: Path) -> str:
    entry = registry.resolve(folder).entry
    if entry is not None:
        return f"{entry.licence.title}. {entry.licence.terms}"
    card = folder / "README.md"
    if card.is_file():
        for line in card.read_text(encoding="utf-8").splitlines():
            if line.startswith("- Licence:"):
                return line.removeprefix("- Licence:").strip()
    return "of a licence that is not known here; see where they come from"


def _advice(folder: Path) -> str:
    entry = registry.find(folder.name)
    return f"run: bolid models pull {entry.name if entry is not None and entry.task == 'caption' else USUAL}"


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
