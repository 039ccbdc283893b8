"""`bolid curate --what-if KEY=VALUE`: how verdicts would move; read from the ledger, and nothing is written."""

import json
import re
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..config import Config, load_config
from ..errors import ConfigError, WorkspaceError
from ..workspace import Workspace
from .config import CurateConfig
from .outcome import Outcome
from .run import Judged, judge

COMPUTED = ("pose_model", "face_model", "caption", "device")
"""Keys that change what is computed, not what is decided."""
EXAMPLES = 20
KEPT, FAILED = "kept", "failed"


@dataclass(frozen=True)
class Moved:
    """A photo whose verdict would be another; `value` and `threshold` are those of the verdict that rejects it."""

    sha256: str
    identity: str
    before: str
    after: str
    value: float | None
    threshold: float | None


@dataclass(frozen=True)
class Preview:
    """What would change, of `photos` photos.

    Attributes:
        changes: dotted key -> the value of the last run and the new one.
        moves: (verdict before, verdict after) -> photos; a verdict is `kept`, `failed` or `stage:reason`.
        kept: photos, before and after.
        identities: with kept photos, before and after.
        examples: the first photos that would move, in the order of the table.
        unscored: photos that the ledger does not hold, such as new ones; they count as failed on both sides.
        command: what makes it so.
    """

    photos: int
    changes: Mapping[str, tuple[Any, Any]]
    moves: Mapping[tuple[str, str], int]
    kept: tuple[int, int]
    identities: tuple[int, int]
    examples: Sequence[Moved] = field(default=())
    unscored: int = 0
    command: str = ""
    seconds: float = 0.0


def what_if(workspace: Workspace, given: Sequence[str], changes: Sequence[str]) -> Preview:
    """Decide anew with the last run's configuration and with a changed one, and compare.

    Args:
        workspace: that was curated.
        given: `key=value` of the other options of the command; they count as changes, too.
        changes: `key=value` to try.

    Raises:
        WorkspaceError: nothing was curated here.
        ConfigError: a key is unknown, a value is wrong, or the key is one of a network, which must be run.
    """
    begun = time.monotonic()
    file = workspace.required(workspace.curation / "config.toml", f"bolid curate -w {workspace.root}")
    last = load_config(CurateConfig, file)
    for item in changes:
        _require_threshold(item, f"{_command(workspace, last)} --set {shlex.quote(item)}")
    new = load_config(CurateConfig, None, [*_items(last), *given, *changes])
    command = _command(workspace, new)
    before, after = judge(workspace, last, compute=False), judge(workspace, new, compute=False)
    lost = set(after.scores.failed) - set(before.scores.failed)
    if lost:
        raise ConfigError(f"{len(lost)} photos must be scored anew for this; run it: {command}")
    if not before.photos:
        raise WorkspaceError(f"{workspace.curation} holds no scores of these photos; run first: {command}")
    return _compare(before, after, _differences(last, new), command, time.monotonic() - begun)


def verdict_of(outcome: Outcome) -> str:
    """Return `kept`, `failed` or `stage:reason`."""
    if outcome.verdict is not None:
        return f"{outcome.verdict.stage}:{outcome.verdict.reason}"
    return KEPT if outcome.keep else FAILED


def flat(config: Config) -> dict[str, Any]:
    """Return the values of a configuration by dotted key; keys without a value are left out."""
    found: dict[str, Any] = {}
    for key, value in config.model_dump(exclude_none=True).items():
        found |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    return found


def _items(config: CurateConfig) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in flat(config).items()]


def _differences(last: CurateConfig, new: CurateConfig) -> dict[str, tuple[Any, Any]]:
    old, now = flat(last), flat(new)
    return {key: (old.get(key), now.get(key)) for key in [*old, *now] if old.get(key) != now.get(key)}


def _command(workspace: Workspace, config: CurateConfig) -> str:
    """Return the command that curates with this configuration."""
    usual = flat(CurateConfig())
    options = [f" --set {_word(key, value)}" for key, value in flat(config).items() if usual.get(key) != value]
    return f"bolid curate -w {shlex.quote(str(workspace.root))}{''.join(options)}"


def _word(key: str, value: object) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./-]*", value) and value not in _TOML_WORDS
    return f"{key}={value}" if plain else shlex.quote(f"{key}={json.dumps(value)}")


_TOML_WORDS = ("true", "false", "inf", "nan")


def _require_threshold(item: str, command: str) -> None:
    key, equals, _ = (part.strip() for part in item.partition("="))
    if not equals or not key:
        raise ConfigError(f"--what-if {item}: write it as KEY=VALUE, for example --what-if identity.keep=0.45")
    if key in COMPUTED:
        raise ConfigError(
            f"--what-if {item}: '{key}' changes what is computed, not only what is decided; run it: {command}"
        )


def _compare(
    before: Judged, after: Judged, changes: Mapping[str, tuple[Any, Any]], command: str, seconds: float
) -> Preview:
    moves: Counter[tuple[str, str]] = Counter()
    examples: list[Moved] = []
    pairs = zip(before.rows, before.decisions.outcomes, after.decisions.outcomes, strict=True)
    for row, old, new in pairs:
        move = verdict_of(old), verdict_of(new)
        if move[0] == move[1]:
            continue
        moves[move] += 1
        verdict = new.verdict or old.verdict
        if verdict is not None and len(examples) < EXAMPLES:
            examples.append(Moved(row["sha256"], row["identity"], *move, verdict.value, verdict.threshold))
    return Preview(
        photos=len(before.rows),
        changes=changes,
        moves=dict(moves.most_common()),
        kept=(_kept(before), _kept(after)),
        identities=(_identities(before), _identities(after)),
        examples=examples,
        unscored=sum(row["sha256"] in after.scores.failed for row in after.rows),
        command=command,
        seconds=seconds,
    )


def _kept(judged: Judged) -> int:
    return sum(outcome.keep for outcome in judged.decisions.outcomes)


def _identities(judged: Judged) -> int:
    pairs = zip(judged.rows, judged.decisions.outcomes, strict=True)
    return len({row["identity"] for row, outcome in pairs if outcome.keep})
