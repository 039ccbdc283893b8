"""Stage `caption`: a sentence on each kept photo by BLIP-2, which must name a person.

The scores are the sentences. A second one, asked for in other words, is there only where the first names nobody. The
decision takes the one that names a person, and flags a photo where neither does; it rejects nothing.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..networks import Network
from ..pixels import PhotoReader
from ..stage import StageKey, paths_of, score_batch

PROMPT = "a photo of"
"""BLIP-2's own for captions (Li et al. 2023, section 4.2)."""
SECOND_PROMPT = "Question: who is in this photo, and what are they wearing? Answer:"

_PEOPLE = """
person people human humans adult adults individual individuals man men woman women guy guys lady ladies gentleman
gentlemen girl girls boy boys bride brides groom grooms couple couples actor actors actress actresses dancer dancers
singer singers musician musicians performer performers artist artists ballerina ballerinas athlete athletes runner
runners swimmer swimmers surfer surfers skier skiers skater skaters cyclist cyclists boxer boxers gymnast gymnasts
worker workers soldier soldiers policeman policemen policewoman policewomen doctor doctors nurse nurses student students
teacher teachers chef chefs waiter waiters waitress waitresses businessman businessmen businesswoman businesswomen
celebrity celebrities mother mothers father fathers sister sisters brother brothers husband husbands wife wives friend
friends
"""
PERSON_NOUNS = frozenset(_PEOPLE.split())
"""One of them, as a word by itself, must be in a caption. Words that also name things (model, figure, player) are not
among them."""
NO_PERSON = "no_person_noun"

SCHEMA = pa.schema([("sha256", pa.string()), ("caption_first", pa.string()), ("caption_second", pa.string())])
"""The answers to both prompts; the second is null where it was not asked, both where the photo does not decode."""


class CaptionStage:
    """Describes each photo; see `SCHEMA` for the columns.

    Args:
        network: a BLIP-2 folder.
        device: of torch.
    """

    schema = SCHEMA
    needs = ()

    def __init__(self, network: Network, device: str = "cpu") -> None:
        nouns = " ".join(sorted(PERSON_NOUNS))
        self.key = StageKey("caption", 1, f"{PROMPT}\n{SECOND_PROMPT}\n{nouns}", network.weights_sha256)
        self._folder, self._device = network.path, device

    def setup(self, reader: PhotoReader) -> None:
        """Load the network."""
        from ...models.caption import Captioner

        self._reader = reader
        self._captioner = Captioner(Path(self._folder), device=self._device)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score a batch, see `Stage`."""
        pictures = {}
        for sha256, path in paths_of(batch):
            picture = self._reader.read(path).picture
            if picture is not None:
                pictures[sha256] = np.asarray(picture)
        first = dict(zip(pictures, self._captioner(list(pictures.values()), PROMPT), strict=True))
        unnamed = [sha256 for sha256, text in first.items() if not names_person(text)]
        answers = self._captioner([pictures[sha256] for sha256 in unnamed], SECOND_PROMPT)
        second = dict(zip(unnamed, answers, strict=True))
        return score_batch(
            SCHEMA,
            [
                {"sha256": sha256, "caption_first": first.get(sha256), "caption_second": second.get(sha256)}
                for sha256, _ in paths_of(batch)
            ],
        )


@dataclass(frozen=True)
class Caption:
    """What is said of a photo, None where nothing is, and what is odd about it (`NO_PERSON`)."""

    text: str | None
    flag: str | None = None


def names_person(text: str) -> bool:
    """Say whether a caption holds a noun for a person, as a word of its own."""
    return not PERSON_NOUNS.isdisjoint(re.findall(r"[^\W\d_]+", text.lower()))


def decide(first: str | None, second: str | None) -> Caption:
    """Pick the answer that names a person; where none does, the first that says anything, flagged.

    Args:
        first: the answer to the first prompt; None where the photo was not described.
        second: that to the second prompt; None where it was not asked.
    """
    answers = [answer for answer in (first, second) if answer]
    for answer in answers:
        if names_person(answer):
            return Caption(answer)
    return Caption(answers[0] if answers else None, NO_PERSON if first is not None else None)
