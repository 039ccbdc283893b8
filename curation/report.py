"""`report.html`: what was kept, what was not, and why, in one page that needs no server and no network.

Up to `EMBEDDED` photos are part of the page. Above that their thumbnails lie in `report_files/` beside it and load as
they scroll into view. The page is replaced last, whole or not at all; a page that shows this very curation is left as
it is. Rows are read in batches (`report_rows`), figures are drawn in `report_figures`.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__, atomic
from ..workspace import Workspace
from . import proposals, thumbnails
from . import report_figures as figures
from . import report_rows as reading
from .config import CurateConfig
from .decisions import Row
from .outcome import CurationSummary
from .report_rows import Reason, Strip, Survey, Tally
from .stages.identity import Cosines

if TYPE_CHECKING:
    import jinja2

EMBEDDED = 400
"""Most photos in strips whose thumbnails are part of the page."""
PROPOSED = 60
"""Most pairs of galleries that are shown as proposals; proposals.parquet has all."""
LISTED = 5000
"""Most identities without a strip in the table of counts."""
_KINDS = ("same_face", "near_photo", "same_photo")
_PARTS = ("report.html.j2", "report.css", "report.js")
_HEAD = 600  # bytes of a page within which its fingerprint stands
Shown = dict[str, Any]


def files_of(workspace: Workspace) -> Path:
    """Return the folder of the thumbnails of a large report."""
    return workspace.report.with_name("report_files")


def write(workspace: Workspace, summary: CurationSummary, config: CurateConfig, cosines: Cosines | None) -> None:
    """Write the report of `curated.parquet`, whole or not at all; `cosines` judged the identities.

    Raises:
        WorkspaceError: it cannot be written.
    """
    mark = _fingerprint(workspace, summary, config, cosines)
    if _is_current(workspace, mark):
        return
    counts = reading.survey(workspace.curated_table)
    pictured = counts.pictured()
    embed = sum(min(counts.identities[slug].offered, reading.STRIP) for slug in pictured) <= EMBEDDED
    environment = _environment()
    with thumbnails.Thumbnails(workspace, files_of(workspace), embed=embed) as pictures:
        album = _Album(workspace, pictures, list(counts.reasons))
        sections = _sections(workspace, counts, pictured, album, environment, cosines)
        reasons, pairs = _examples(workspace, counts, album)
        proposed = _proposals(workspace, summary, counts, album)
        page = environment.get_template("page").render(
            version=__version__,
            mark=f"{mark} {0 if embed else len(pictures.used)}",
            summary=asdict(summary),
            counts=counts,
            thresholds=_thresholds(config),
            funnel=figures.funnel(counts),
            histograms=figures.histograms(workspace.curated_table, config, cosines),
            wheel=figures.wheel(counts.coverage),
            wheel_cells=figures.wheel_cells(),
            wheel_labels=figures.wheel_labels(),
            coverage=figures.coverage_table(counts.coverage),
            reasons=reasons,
            pairs=pairs,
            proposals=proposed,
            sections=sections,
            rest=_rest(counts, pictured),
            **_parts(environment),
        )
        atomic.write_text(workspace.report, page)
        pictures.tidy()


def forget(workspace: Workspace, photos: Collection[str]) -> None:
    """Remove every trace of photos (by sha256) from the report: the page that showed them goes, and their thumbnails.

    The next `bolid curate` writes the page again, from what the table then holds.
    """
    workspace.report.unlink(missing_ok=True)
    thumbnails.forget(workspace, photos, files_of(workspace))


def _fingerprint(workspace: Workspace, summary: CurationSummary, config: CurateConfig, cosines: Cosines | None) -> str:
    """Return a hash of all that the page shows; how long the curation took is not on it."""
    digest = hashlib.sha256()
    for table in (workspace.curated_table, workspace.proposals_table):
        if table.exists():
            with table.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    told = {name: value for name, value in asdict(summary).items() if name not in ("seconds", "computed")}
    given = [__version__, told, config.model_dump(mode="json"), None if cosines is None else asdict(cosines)]
    limits = [EMBEDDED, LISTED, PROPOSED, reading.STRIP, reading.SHOWN, thumbnails.SIDE]
    digest.update(json.dumps([given, limits], default=str, sort_keys=True).encode())
    for part in _PARTS:
        digest.update(resources.files(__package__).joinpath(part).read_bytes())
    return digest.hexdigest()


def _is_current(workspace: Workspace, mark: str) -> bool:
    """Tell whether the page shows this curation, and all its thumbnails are there."""
    try:
        with workspace.report.open("rb") as file:
            head = file.read(_HEAD).decode("utf-8", "replace")
    except FileNotFoundError:
        return False
    _, found, rest = head.partition(f'content="{mark} ')
    if not found:
        return False
    folder = files_of(workspace)
    present = sum(1 for _ in folder.glob("*.jpg")) if folder.is_dir() else 0
    return present == int(rest.partition('"')[0])


def _environment() -> "jinja2.Environment":
    import jinja2

    source = resources.files(__package__).joinpath("report.html.j2").read_text("utf-8")
    page, _, section = source.partition("{# One identity. #}\n")
    return jinja2.Environment(
        loader=jinja2.DictLoader({"page": page, "section": section}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _parts(environment: "jinja2.Environment") -> dict[str, str]:
    """Return style and script, and the script's hash for the policy that lets the page run nothing else."""
    from markupsafe import Markup

    style, script = (resources.files(__package__).joinpath(name).read_text("utf-8") for name in _PARTS[1:])
    allowed = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"style": Markup(style), "script": Markup(script), "script_sha256": allowed}


def _thresholds(config: CurateConfig) -> dict[str, Any]:
    """Return what the configuration says, by dotted key; keys without a value are left out."""
    flat: dict[str, Any] = {}
    for key, value in config.model_dump(exclude_none=True).items():
        flat |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    return flat


@dataclass(frozen=True)
class _Album:
    """Makes what the page shows of a photo."""

    workspace: Workspace
    pictures: thumbnails.Thumbnails
    reasons: list[Reason]

    def show(self, rows: Iterable[Row]) -> list[Shown]:
        """Return address, size, state and words of each photo; `src` is None where nothing can be shown."""
        rows = list(rows)
        visible = [row for row in rows if row["decoded_width"] and row["reject_stage"] not in reading.WITHHELD]
        found = self.pictures.addresses(
            thumbnails.Source(row["sha256"], self.workspace.photo(row["sha256"], row["format"])) for row in visible
        )
        numbers = {row["sha256"]: number for number, row in enumerate(rows, 1) if row["keep"]}
        return [self._shown(row, found.get(row["sha256"]), numbers) for row in rows]

    def _shown(self, row: Row, address: str | None, numbers: Mapping[str, int]) -> Shown:
        wide, high = row["decoded_width"] or 3, row["decoded_height"] or 4
        scale = thumbnails.SIDE / max(wide, high)
        reason = (row["reject_stage"], row["reject_reason"])
        withheld = row["reject_stage"] in reading.WITHHELD
        return {
            "src": None if withheld else address,
            "width": max(1, round(wide * scale)),
            "height": max(1, round(high * scale)),
            "state": reading.state(row),
            "reason": self.reasons.index(reason) if row["reject_stage"] else "",
            "why": _why(row),
            "facts": _facts(row, numbers),
            "caption": None if withheld else row.get("caption"),
            "doubted": bool(row.get("caption_flag")),
            "sha256": row["sha256"],
            "file": self.workspace.photo(row["sha256"], row["format"]).suffix,
        }


def _why(row: Row) -> str:
    """What decided over a photo, with its value and the threshold that it was held against."""
    if row["keep"]:
        return "kept, to be reviewed" if row.get("identity_review") else "kept"
    if row["error"] is not None:
        return f"failed · {row['error']}"
    text = f"{row['reject_stage']} · {row['reject_reason']}"
    if row["reject_value"] is not None and row["reject_threshold"] is not None:
        text += f" · {row['reject_value']:.5g} against {row['reject_threshold']:.5g}"
    return text


def _facts(row: Row, numbers: Mapping[str, int]) -> str:
    facts = [f"{row['decoded_width']}×{row['decoded_height']}"] if row["decoded_width"] else []
    facts += [", ".join(name for name in (row.get("view"), row.get("framing")) if name)]
    if row.get("identity_score") is not None:
        facts.append(f"cosine {row['identity_score']:.2f}")
    elif row.get("identity_evidence") == "gallery":
        facts.append("no usable face")
    if row["nearest_kept"] in numbers:
        facts.append(f"repeats no. {numbers[row['nearest_kept']]}")
    if row.get("shared_with"):
        facts.append(f"also in {', '.join(row['shared_with'])}")
    return " · ".join(fact for fact in facts if fact)


def _sections(
    workspace: Workspace,
    counts: Survey,
    pictured: list[str],
    album: _Album,
    environment: "jinja2.Environment",
    cosines: Cosines | None,
) -> list[str]:
    """Return the sections of the identities that are shown, each drawn as soon as its rows were read."""
    from markupsafe import Markup

    template, same = environment.get_template("section"), None if cosines is None else cosines.same
    chosen = {slug: counts.identities[slug] for slug in pictured}
    drawn: dict[str, str] = {}
    for strip in reading.strips(workspace.curated_table, chosen):
        tally = chosen[strip.slug]
        section = template.render(
            slug=strip.slug,
            tally=tally,
            share=tally.kept / tally.offered,
            photos=album.show(strip.rows),
            hidden=tally.offered - len(strip.rows),
            wheel=figures.wheel(tally.coverage),
            matrix=figures.matrix(strip, same),
            note=_note(strip, tally),
        )
        drawn[strip.slug] = Markup(section)
    return [drawn[slug] for slug in pictured]


def _note(strip: Strip, tally: Tally) -> str:
    """Say why an identity is gone as a whole."""
    thin = [row for row in strip.rows if row["reject_stage"] == "coverage"]
    if tally.kept or not thin:
        return ""
    return f"rejected as a whole: {thin[0]['reject_value']:g} photos left of {thin[0]['reject_threshold']:g} asked for"


def _examples(workspace: Workspace, counts: Survey, album: _Album) -> tuple[list[Shown], list[Shown]]:
    """Return the reasons with example photos, and the pairs of near duplicates."""
    numbers = {number for found in counts.examples.values() for number in found} | set(counts.pairs)
    rows, _ = reading.fetch(workspace.curated_table, numbers)
    nearest = {rows[number]["nearest_kept"] for number in counts.pairs} - {None}
    _, kept = reading.fetch(workspace.curated_table, (), nearest)
    reasons: list[Shown] = [
        {
            "stage": stage,
            "reason": reason,
            "number": number,
            "count": count,
            "examples": album.show(rows[place] for place in counts.examples[stage, reason]),
        }
        for number, ((stage, reason), count) in enumerate(counts.reasons.items())
    ]
    reasons.sort(key=lambda reason: -reason["count"])
    return reasons, [_pair(rows[number], kept, album) for number in counts.pairs]


def _pair(row: Row, kept: Mapping[str, Row], album: _Album) -> Shown:
    both = [row] if row["nearest_kept"] not in kept else [kept[row["nearest_kept"]], row]
    shown = album.show(both)
    return {"name": row["identity_name"] or row["identity"], "bits": int(row["reject_value"]), "photos": shown}


def _proposals(workspace: Workspace, summary: CurationSummary, counts: Survey, album: _Album) -> Shown:
    """Return the pairs of galleries that may show one person, and what else was remarked."""
    found = reading.proposed(workspace.proposals_table)
    told = set(proposals.remarks(found))
    chosen = sorted(found, key=lambda each: (_KINDS.index(each.kind), -each.count, each.value))[:PROPOSED]
    _, rows = reading.fetch(workspace.curated_table, (), {sha for each in chosen for sha in (each.sha_a, each.sha_b)})
    pairs = []
    for each in chosen:
        sides = ((each.identity_a, each.sha_a), (each.identity_b, each.sha_b))
        names = [counts.identities[slug].name if slug in counts.identities else slug for slug, _ in sides]
        photos = album.show(rows[sha] for _, sha in sides if sha in rows)
        pairs.append({"kind": each.kind, "value": each.value, "count": each.count, "names": names, "photos": photos})
    lines = [line for line in summary.remarks if line not in told]
    return {"pairs": pairs, "more": len(found) - len(chosen), "lines": lines}


def _rest(counts: Survey, pictured: list[str]) -> Shown:
    """Return name and counts of the identities that have no strip."""
    seen = set(pictured)
    others = [(slug, tally) for slug, tally in counts.identities.items() if slug not in seen]
    listed = [
        {"slug": slug, "name": tally.name, "offered": tally.offered, "kept": tally.kept} for slug, tally in others
    ]
    return {"total": len(others), "listed": listed[:LISTED]}
