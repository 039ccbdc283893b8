"""What became of a photo, and of all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .stage import Verdict
from .stages.identity import Finding


@dataclass(frozen=True)
class Outcome:
    """What became of a photo: kept, rejected (`verdict`) or failed (`error`)."""

    verdict: Verdict | None
    error: str | None
    shared_with: Sequence[str] = ()
    """Other identities whose galleries hold the same bytes: flagged, never decided here."""
    finding: Finding | None = None
    """What is known of who is in the photo; None where it was not asked, or the photo went before."""

    @property
    def keep(self) -> bool:
        """True when no stage objected and all of them worked."""
        return self.verdict is None and self.error is None


@dataclass(frozen=True)
class CurationSummary:
    """Counts of a curation; `offered` = `kept` + the sum of `rejected` + `failed`."""

    offered: int
    kept: int
    rejected: dict[str, int]
    """"stage:reason" -> photos."""
    failed: int
    computed: int
    """Photos that were scored now; the others came from the ledger."""
    identities: int
    seconds: float
    networks: Mapping[str, str] = field(default_factory=dict)
    """Stage -> name of its network."""
    not_run: Mapping[str, str] = field(default_factory=dict)
    """Stage -> why it was not run, and the command that changes it."""
    remarks: Sequence[str] = ()
    """Galleries that hold several people, galleries that seem to show one person, and captions that failed or are
    flagged."""
    described: int = 0
    """Kept photos whose captions were made now; the others came from the ledger."""
