"""The small CLIP: a picture tower and a text tower trained to know which caption is whose."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ...models.clip import ClipScorer
from ..judges import SIZE
from . import corpus, record
from .judges_attributes import HIDDEN, WORDS, targets
from .judges_fit import Photos, Schedule, fit
from .judges_softening import soften

WIDTH = 96
PATCH = 16
LAYERS = {"picture": 5, "text": 2}
HEADS = 4
CONTEXT = 77
VOCABULARY = 1000
SCHEDULE = Schedule(epochs=14, batch=128, rate=1.5e-3, decay=0.1)
GALLERY = 100


def tokenizer(captions: list[str]) -> Any:  # noqa: ANN401 - a transformers class, imported late
    """A byte-pair `CLIPTokenizer` whose merges are learnt from captions."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    plain = CLIPTokenizer()
    learner = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    learner.normalizer = plain.backend_tokenizer.normalizer
    learner.pre_tokenizer = plain.backend_tokenizer.pre_tokenizer
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=letters, end_of_word_suffix="</w>")
    learner.train_from_iterator(captions, trainer)
    merges = _merges(learner)
    pieces = sorted(letters) + [letter + "</w>" for letter in sorted(letters)] + ["".join(pair) for pair in merges]
    vocabulary = {piece: i for i, piece in enumerate([*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"])}
    # annotated for one string a merge, made for pairs
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)  # type: ignore[arg-type]


def _merges(learner: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - tokenizers.Tokenizer
    return [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]


def towers(words: Any) -> Any:  # noqa: ANN401 - transformers classes, imported late
    """A `CLIPModel` with random weights for a tokenizer."""
    from transformers import CLIPConfig, CLIPModel

    shared = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS}
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    config = CLIPConfig(
        text_config={
            **shared,
            **ends,
            "vocab_size": len(words),
            "max_position_embeddings": CONTEXT,
            "num_hidden_layers": LAYERS["text"],
            "projection_dim": WIDTH,
        },
        vision_config={
            **shared,
            "image_size": SIZE,
            "patch_size": PATCH,
            "num_hidden_layers": LAYERS["picture"],
            "projection_dim": WIDTH,
        },
        projection_dim=WIDTH,
    )
    # On a CPU in bfloat16 the plain attention is twice as fast as the fused one.
    return CLIPModel._from_config(config, attn_implementation="eager")  # type: ignore[no-untyped-call]


class _Student(nn.Module):
    """The towers with classifiers of the caption's attributes on the picture's features; these are not kept."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - CLIPModel
        super().__init__()
        self.model = model
        self.heads = nn.ModuleList(nn.Linear(WIDTH, len(classes)) for classes in WORDS.values())

    def pictures(self, images: Tensor) -> Tensor:
        out: Tensor = self.model.visual_projection(
            self.model.vision_model(pixel_values=images * 2 - 1).pooler_output
        ).float()
        return out

    def texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        out: Tensor = self.model.text_projection(
            self.model.text_model(input_ids=ids, attention_mask=mask).pooler_output
        ).float()
        return out


def train(photos: Photos, test: Photos, out: Path, schedule: Schedule = SCHEDULE) -> dict[str, Any]:
    """Train the small CLIP, write it with its figures and its card, and return the figures."""
    torch.manual_seed(schedule.seed)
    words = tokenizer(photos.captions)
    student = _Student(towers(words))
    tokens = words(photos.captions, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt")
    truth = {name: torch.from_numpy(classes) for name, classes in targets(photos).items()}

    def loss(batch: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        pictures = student.pictures(soften(photos.images[batch], rng, strength=0.4))
        mask = tokens["attention_mask"][batch]
        longest = int(mask.sum(1).max())
        texts = student.texts(tokens["input_ids"][batch, :longest], mask[:, :longest])
        scale = student.model.logit_scale.exp().clamp(max=100)
        own = torch.arange(len(batch))
        with torch.autocast("cpu", enabled=False):
            logits = scale * F.normalize(pictures, dim=-1) @ F.normalize(texts, dim=-1).T
        contrast = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        named = [
            F.cross_entropy(head(pictures), truth[name][batch], ignore_index=HIDDEN)
            for name, head in zip(WORDS, student.heads, strict=True)
        ]
        return contrast + 0.3 * torch.stack(named).mean()

    fit("small CLIP", student, len(photos), loss, schedule)
    save(student.model, words, out)
    figures = measure(ClipScorer(out), test)
    config = {
        "seed": corpus.TRAINING["judges"],
        "photos": len(photos),
        "width": WIDTH,
        "patch": PATCH,
        "layers": LAYERS,
        "vocabulary": len(words),
        "schedule": vars(schedule),
    }
    record.write(out, "Small CLIP", WHAT, config, figures)
    return figures


def save(model: Any, words: Any, out: Path) -> None:  # noqa: ANN401 - transformers classes
    """Write model (float16), tokenizer and preprocessing as a folder for `from_pretrained`."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model.set_attn_implementation("sdpa")
    model.half().save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    words.save_pretrained(out)
    CLIPImageProcessorPil(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    ).save_pretrained(out)


def measure(scorer: ClipScorer, test: Photos) -> dict[str, Any]:
    """Retrieval among galleries of 100 photos of different people, and how far right captions stand from wrong ones."""
    pictures, texts = scorer.image_features(list(test.images)), scorer.text_features(test.captions)
    order = np.argsort(np.random.Generator(np.random.PCG64(0)).random(len(test)))
    found: dict[str, list[float]] = {"text to image": [], "image to text": []}
    for i in range(0, len(test) - GALLERY + 1, GALLERY):
        rows = torch.from_numpy(order[i : i + GALLERY])
        similarity = pictures[rows] @ texts[rows].T
        own = torch.arange(GALLERY)
        found["image to text"].append(float((similarity.argmax(1) == own).float().mean()))
        found["text to image"].append(float((similarity.argmax(0) == own).float().mean()))
    right = (pictures * texts).sum(1)
    wrong = (pictures * texts.roll(1237, 0)).sum(1)
    figures: dict[str, Any] = {"test photos": len(test)}
    for name, shares in found.items():
        figures[f"R@1 {name} among {GALLERY}"] = round(float(np.mean(shares)), 4)
    figures["R@1 by chance"] = 1 / GALLERY
    figures["similarity to the right caption, mean"] = round(float(right.mean()), 4)
    figures["similarity to another photo's caption, mean"] = round(float(wrong.mean()), 4)
    figures["right caption above a wrong one, share"] = round(float((right > wrong).float().mean()), 4)
    return figures


WHAT = """
A contrastive picture and text model (Radford et al. 2021) in Hugging Face's `CLIPModel` layout, of a million numbers;
it stands in for ViT-L/14 wherever a CLIP folder is asked for and is loaded by `CLIPModel.from_pretrained` and by
`bolid.models.clip` alike. Learnt from photos and captions of procedural people of a world of its own, with classifiers
of the captions' attributes on the picture's features as a second task (dropped afterwards). A judge only; no training
reads it.
"""
