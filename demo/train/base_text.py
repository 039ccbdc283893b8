"""The base's two text encoders and their tokenizer: words of the captions, made to know what a caption says."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ...models.sdxl import byte_letters

TOKENS = 64
WIDTHS = (64, 96)
"""Of the first and the second encoder; the UNet sees both side by side and the second's pooled embedding."""

SAID = {
    "top": "always",
    "top_colour": "always",
    "top_pattern": "always",
    "bottom": "legs",
    "bottom_colour": "legs",
    "bottom_pattern": "legs",
    "shoes": "feet",
    "shoe_colour": "feet",
    "pose": "always",
    "view": "always",
    "framing": "always",
    "background": "always",
    "background_colour": "always",
}
"""What captions say: always, in photos that show the legs, or in photos that show the feet."""

SHOWN = {"full": ("always", "legs", "feet"), "three-quarter": ("always", "legs")}


class TextEncoders(nn.Module):
    """Both encoders as `StableDiffusionXLPipeline.encode_prompt` uses them."""

    def __init__(self, vocabulary: int, end: int) -> None:
        super().__init__()
        first, second = (_text_config(vocabulary, end, width) for width in WIDTHS)
        self.first = CLIPTextModel(first)
        self.second = CLIPTextModelWithProjection(second)
        for encoder in (self.first, self.second):
            encoder.set_attn_implementation("eager")  # faster than the fused one in bfloat16 on a CPU

    def forward(self, ids_BS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states [B, S, D] before each encoder's last layer side by side, then each one's pooled embedding."""
        one = self.first(ids_BS, output_hidden_states=True)
        two = self.second(ids_BS, output_hidden_states=True)
        states = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], -1)
        return states, one.pooler_output, two.text_embeds


def _text_config(vocabulary: int, end: int, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        projection_dim=width,
        intermediate_size=3 * width,
        num_hidden_layers=3,
        num_attention_heads=width // 32,
        max_position_embeddings=TOKENS,
        bos_token_id=end - 1,
        eos_token_id=end,
        pad_token_id=end,
    )


def word_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """A CLIP tokenizer (byte-level BPE) whose merges make one token of every word of the captions.

    Merges are learnt as BPE learns them, the most frequent pair first (Sennrich et al. 2016, algorithm 1), until no
    word is left in pieces; words never seen are spelt.
    """
    words = Counter(word for caption in captions for word in _words(caption))
    pieces = {word: [*word[:-1], f"{word[-1]}</w>"] for word in words}
    merges: list[Any] = []
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in pieces.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        pieces = {word: _merged(parts, best) for word, parts in pieces.items()}
    letters = byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *dict.fromkeys(a + b for a, b in merges)]
    vocabulary: dict[str, Any] = {t: i for i, t in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


def _words(caption: str) -> list[str]:
    kept = "".join(c if c.isalpha() else f" {c} " for c in caption.lower())
    return kept.split()


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def token_ids(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """Token ids int64 [N, 64], padded as the pipeline pads."""
    ids = tokenizer(list(captions), padding="max_length", max_length=TOKENS, truncation=True).input_ids
    return torch.tensor(ids)


def said(attributes: Mapping[str, str]) -> dict[str, str]:
    """What a photo's caption says of its attributes; "unsaid" for what the photo does not show."""
    shown = SHOWN.get(attributes["framing"], ("always",))
    return {name: attributes[name] if where in shown else "unsaid" for name, where in SAID.items()}


class Hearing(nn.Module):
    """One linear classifier for each encoder and each thing that captions say; used in training only.

    It teaches the encoders which words matter while the UNet is still learning what pictures are.
    """

    def __init__(self, attributes: Sequence[Mapping[str, str]]) -> None:
        super().__init__()
        heard = [said(a) for a in attributes]
        self.labels = {name: _numbered([words[name] for words in heard]) for name in SAID}
        sizes = {name: int(y.max()) + 1 for name, y in self.labels.items()}
        self.heads = nn.ModuleList(nn.ModuleDict({n: nn.Linear(w, c) for n, c in sizes.items()}) for w in WIDTHS)

    def forward(self, pooled: Sequence[Tensor], which_B: Tensor) -> Tensor:
        """The mean cross-entropy over both encoders' pooled embeddings and everything said of photos `which_B`."""
        losses = [
            F.cross_entropy(head(vector.float()), self.labels[name][which_B])
            for heads, vector in zip(self.heads, pooled, strict=True)
            for name, head in heads.items()  # type: ignore[operator]
        ]
        return torch.stack(losses).mean()


def _numbered(values: Sequence[str]) -> Tensor:
    names = sorted(set(values))
    return torch.tensor([names.index(value) for value in values])
