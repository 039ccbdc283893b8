"""The command line: options and help only; the work of each command is one call into a room.

Rooms are imported inside the commands, so that `bolid --help` answers at once whatever is installed.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from . import progress, summaries
from .arguments import (
    AllowPrivateOption,
    ConfigOption,
    ContactOption,
    DatasetArgument,
    JsonOption,
    KeepOption,
    ResumeOption,
    SetOption,
    ShardsOption,
    VersionOption,
    WorkspaceOption,
    assignments,
    byte_count,
    picture_size,
    shares,
)
from .errors import EXTRA_OF, BolidError, MissingExtraError
from .workspace import Workspace

app = typer.Typer(
    name="bolid",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Galleries of people's photos to identity-grouped shards to a body-and-face adapter for SDXL.",
    epilog="Start here: `bolid demo` runs all of it on this machine, with no weights and no internet.",
)
train = typer.Typer(no_args_is_help=True, help="Train the Body-ID Encoder, then the adapter.")
shards_app = typer.Typer(no_args_is_help=True, help="Look into a packed dataset: is it whole, what does it hold.")
sites_app = typer.Typer(no_args_is_help=True, help="Site definitions: which are shipped, and whether one fits a page.")
runs_app = typer.Typer(no_args_is_help=True, help="Training runs: which there are, and what they came to.")
models_app = typer.Typer(no_args_is_help=True, help="Networks of others: which are known, fetch them, are they whole.")
for _name, _group in (("train", train), ("shards", shards_app), ("sites", sites_app), ("runs", runs_app)):
    app.add_typer(_group, name=_name)
app.add_typer(models_app, name="models")


@app.callback()
def _main(version: VersionOption = False) -> None:
    pass


@app.command(epilog="Example: `bolid crawl --contact you@example.org --identities 10 -w data`")
def crawl(
    start_url: Annotated[
        str | None, typer.Argument(help="Address of a mirror or test server, instead of the site's own.")
    ] = None,
    site: Annotated[str, typer.Option(help="Name of a site definition, or a TOML file.")] = "theplace",
    workspace: WorkspaceOption = None,
    identities: Annotated[int | None, typer.Option(min=1, help="Stop after so many identities.")] = None,
    min_res: Annotated[
        int, typer.Option(min=1, help="Smallest short side, px; smaller photos are not fetched.")
    ] = 1000,
    min_photos: Annotated[int, typer.Option(min=0, help="Skip identities that announce fewer photos.")] = 100,
    max_photos: Annotated[int, typer.Option(min=1, help="Most photos of an identity.")] = 500,
    rate: Annotated[float, typer.Option(min=0.001, help="Requests a second to one host.")] = 2.0,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 8,
    contact: ContactOption = None,
    allow_private: AllowPrivateOption = None,
    max_bytes: Annotated[str, typer.Option(help="Largest photo, bytes or with K, M, G.")] = "64M",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again for what a server or a page refused for good.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Read listing pages again where they changed; fetch only what is new.")
    ] = False,
    urls: Annotated[
        Path | None, typer.Option(help="Fetch a list of addresses instead of a site: a .parquet, .csv or .txt file.")
    ] = None,
    url_col: Annotated[str, typer.Option(help="Column of the addresses in --urls.")] = "url",
    identity_col: Annotated[
        str | None, typer.Option(help="Column of the identities in --urls; default: all are one identity.")
    ] = None,
    json_lines: JsonOption = False,
) -> None:
    """Fetch photo sets, one identity a set, politely; run it again to go on where it stopped."""
    progress.use_json_lines(json_lines)
    from .config import validate
    from .crawler import crawl as room

    if urls is not None and start_url is not None:
        raise typer.BadParameter("START_URL and --urls exclude each other: crawl a site or a list")
    if urls is None and identity_col is not None:
        raise typer.BadParameter("--identity-col names a column of a list; add --urls FILE")
    options = {
        "start_url": start_url,
        "site": site,
        "identities": identities,
        "min_res": min_res,
        "min_photos": min_photos,
        "max_photos": max_photos,
        "rate": rate,
        "concurrency": concurrency,
        "contact": contact,
        "allow_private": tuple(allow_private or ()),
        "max_bytes": byte_count(max_bytes),
        "retry_failed": retry_failed,
        "refresh": refresh,
    }
    where, resolved = Workspace.resolve(workspace), validate(room.CrawlOptions, options, "bolid crawl")
    if urls is None:
        summaries.crawl(room.crawl(where, resolved), where)
    else:
        summaries.crawl(room.crawl_urls(where, resolved, urls, url_col, identity_col), where)


@app.command(epilog="Example: `bolid status -w data`, also while a crawl runs")
def status(workspace: WorkspaceOption = None, json_lines: JsonOption = False) -> None:
    """Show how a crawl stands: people, photos by state and reason, and what running it again would do."""
    progress.use_json_lines(json_lines)
    from .crawler import status as room

    summaries.status(room.status(Workspace.resolve(workspace)))


@sites_app.command("list", epilog="Example: `bolid sites list`")
def sites_list(json_lines: JsonOption = False) -> None:
    """List the site definitions that come with bolid."""
    progress.use_json_lines(json_lines)
    from .crawler import sites_check as room

    summaries.sites(room.list_sites())


@sites_app.command("show", epilog="Example: `bolid sites show theplace > mysite.toml`, to begin a new one from")
def sites_show(
    site: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Name of a site definition, or a TOML file.")],
    json_lines: JsonOption = False,
) -> None:
    """Print a site definition as TOML."""
    progress.use_json_lines(json_lines)
    from .crawler import sites_check as room

    text = room.show_site(site)
    progress.result("definition", text.rstrip("\n"), site=site, toml=text)


@sites_app.command("check", epilog="Example: `bolid sites check mysite.toml --url saved-page.html`")
def sites_check(
    site: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A TOML file, or the name of a site definition.")],
    url: Annotated[str | None, typer.Option(metavar="PAGE", help="Address of a page, or a saved one.")] = None,
    contact: ContactOption = None,
    allow_private: AllowPrivateOption = None,
    json_lines: JsonOption = False,
) -> None:
    """Check a site definition; with a page, say what each of its selectors finds there."""
    progress.use_json_lines(json_lines)
    from .crawler import sites_check as room

    summaries.site_check(room.check_site(site, url, contact, tuple(allow_private or ())))


@models_app.command("list", epilog="Example: `bolid models list --json`")
def models_list(json_lines: JsonOption = False) -> None:
    """List the networks that bolid knows: task, licence, size, and whether they are on this machine."""
    progress.use_json_lines(json_lines)
    from .models import listing as room

    room.tell_list()


@models_app.command("pull", epilog="Example: `bolid models pull yolo11n-pose buffalo_l --accept-licence`")
def models_pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Networks of: bolid models list.")],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the licences of these networks; asked for once a licence.")
    ] = False,
    allowed_licenses: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Accept these licences and refuse all others.")
    ] = None,
    json_lines: JsonOption = False,
) -> None:
    """Fetch networks to $BOLID_MODELS, from $BOLID_MIRROR if set; run it again to go on where it stopped."""
    progress.use_json_lines(json_lines)
    from .models import fetch as room
    from .models import listing

    allowed = None if allowed_licenses is None else [each.strip().lower() for each in allowed_licenses.split(",")]
    listing.tell_pulled(room.pull(names, accept_licence, allowed))


@models_app.command("path", epilog="Example: `bolid models path yolo11n-pose`")
def models_path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Network of: bolid models list.")],
    json_lines: JsonOption = False,
) -> None:
    """Print where a network lies on this machine, or fail with the command that fetches it."""
    progress.use_json_lines(json_lines)
    from .models import listing as room

    room.tell_path(name)


@models_app.command("verify", epilog="Example: `bolid models verify`, for all that are on this machine")
def models_verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Default: all that are here.")] = None,
    json_lines: JsonOption = False,
) -> None:
    """Read every byte and compare with the sums of the pull; exit code 11 names the damaged files."""
    progress.use_json_lines(json_lines)
    from .models import fetch as room
    from .models import listing

    listing.tell_verified(room.verify(names or ()))


@app.command(epilog="Example: `bolid curate --min-res 1000 -w data`, then open `data/report.html`")
def curate(
    workspace: WorkspaceOption = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="First take photos in: one folder an identity, or img2dataset's."),
    ] = None,
    identity_column: Annotated[str | None, typer.Option(help="Column of the identity in img2dataset's tables.")] = None,
    min_res: Annotated[int | None, typer.Option(min=1, help="Smallest short side, px. [default: 1000]")] = None,
    min_photos: Annotated[
        int | None, typer.Option(min=1, help="Reject identities with fewer photos left. [default: 20]")
    ] = None,
    near_duplicate: Annotated[
        int | None, typer.Option(min=0, max=64, help="Most differing bits of 64 between near duplicates. [default: 4]")
    ] = None,
    max_aspect: Annotated[
        float | None, typer.Option(min=1, help="Longest long side, as a multiple of the short one. [default: 3.0]")
    ] = None,
    pose: Annotated[
        str | None, typer.Option(metavar="NAME|FILE|none", help="Pose network. [default: yolo11x-pose, if it is here]")
    ] = None,
    face: Annotated[
        str | None, typer.Option(metavar="NAME|DIR|none", help="Face model. [default: buffalo_l, if it is here]")
    ] = None,
    caption: Annotated[
        str | None, typer.Option(metavar="NAME|DIR|attributes|none", help="Captions. [default: the best that is here]")
    ] = None,
    min_age: Annotated[
        int | None, typer.Option(help="Exclude photos of people who look younger; 18 or more. [default: 18]")
    ] = None,
    set_: SetOption = None,
    device: Annotated[
        str | None, typer.Option(metavar="auto|cpu|cuda", help="Where networks run. [default: auto]")
    ] = None,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="Processes here, or a Ray cluster.")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core.")] = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Show how verdicts would move since the last run; writes nothing."),
    ] = None,
    explain: Annotated[
        str | None, typer.Option(metavar="SHA256|FILE|URL", help="Tell what became of a photo in the last run.")
    ] = None,
    json_lines: JsonOption = False,
) -> None:
    """Judge every photo: kept, or rejected with the reason; changing a threshold computes nothing again."""
    progress.use_json_lines(json_lines)
    if sum(bool(each) for each in (from_, what_if, explain)) > 1:
        raise typer.BadParameter("--from, --what-if and --explain exclude each other; give one")
    if identity_column is not None and from_ is None:
        raise typer.BadParameter("--identity-column names a column of img2dataset's tables; add --from DIR")
    from .config import load_config
    from .curation.config import CurateConfig

    where = Workspace.resolve(workspace)
    options: dict[str, object] = {"min_res": min_res, "max_aspect": max_aspect, "near_duplicate": near_duplicate}
    options |= {"min_photos": min_photos, "pose_model": pose, "face_model": face, "caption": caption}
    options |= {"exclusions.min_age": min_age, "device": device}
    given = assignments(options, set_)
    if explain:
        from .curation.explain import explain as tell

        summaries.stories(tell(where, explain))
    elif what_if:
        from .curation.what_if import what_if as preview

        summaries.preview(preview(where, given, what_if))
    else:
        from .curation import run as room

        config = load_config(CurateConfig, None, given)
        if from_ is not None:
            from .curation.intake import take_in

            summaries.intake(take_in(where, from_, identity_column), where)
        summaries.curation(room.curate(where, config, workers, engine=engine), where)


@app.command(epilog="Example: `bolid pack -w data --split 0.9,0.05,0.05`")
def pack(
    workspace: WorkspaceOption = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR|URL", help="Folder or address (s3://…) of the shards; default: the workspace's."),
    ] = None,
    shard_size: Annotated[str, typer.Option(help="Bytes a shard, or with K, M, G.")] = "512M",
    split: Annotated[str, typer.Option(help="Shares of identities for train, val and test.")] = "0.9,0.05,0.05",
    max_side: Annotated[int | None, typer.Option(min=64, help="Scale photos down to this long side, px.")] = None,
    jpeg_quality: Annotated[int, typer.Option(min=1, max=100, help="Of photos that must be encoded.")] = 92,
    keep_format: Annotated[
        bool, typer.Option("--keep-format", help="Leave PNG, WebP, GIF and AVIF photos as they are; else JPEG.")
    ] = False,
    repack: Annotated[
        bool, typer.Option("--repack", help="Write everything anew; retired photos leave the tars.")
    ] = False,
    json_lines: JsonOption = False,
) -> None:
    """Pack the kept photos into identity-grouped WebDataset shards; run it again to add new ones."""
    progress.use_json_lines(json_lines)
    from .config import validate
    from .shards import options as pack_options
    from .shards import writer as room

    options = {"shard_size": byte_count(shard_size), "split": shares(split), "max_side": max_side}
    options |= {"jpeg_quality": jpeg_quality, "keep_format": keep_format}
    config = validate(pack_options.PackConfig, options, "bolid pack")
    summaries.pack(room.pack(Workspace.resolve(workspace), config, out, repack=repack))


@shards_app.command("verify", epilog="Example: `bolid shards verify data/shards`")
def shards_verify(
    dataset: DatasetArgument = None, workspace: WorkspaceOption = None, json_lines: JsonOption = False
) -> None:
    """Read every byte and compare tars, index and manifest; exit code 8 when something is wrong."""
    progress.use_json_lines(json_lines)
    from .shards import verification as room

    room.tell_verified(_dataset(dataset, workspace))


@shards_app.command("show", epilog="Example: `bolid shards show i000003_000001 --shards data/shards --out photo.png`")
def shards_show(
    name: Annotated[str, typer.Argument(metavar="KEY|IDENTITY", help="Sample key, or name or number of an identity.")],
    shards: Annotated[
        str | None, typer.Option("--shards", help="Folder or address of the dataset; default: the workspace's.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Picture to write; default: KEY|IDENTITY.png in the workspace's pictures.")
    ] = None,
    workspace: WorkspaceOption = None,
    json_lines: JsonOption = False,
) -> None:
    """Draw a photo with its keypoints and boxes, or a contact sheet of a person."""
    progress.use_json_lines(json_lines)
    from .shards import drawing as room

    room.tell_shown(_dataset(shards, workspace), name, out or Workspace.resolve(workspace).pictures / f"{name}.png")


@shards_app.command("stats", epilog="Example: `bolid shards stats data/shards`")
def shards_stats(
    dataset: DatasetArgument = None, workspace: WorkspaceOption = None, json_lines: JsonOption = False
) -> None:
    """Count people, photos, poses and faces of each split."""
    progress.use_json_lines(json_lines)
    from .shards import report as room

    room.tell_stats(_dataset(dataset, workspace))


@train.command("vae", epilog="Example: `bolid train vae --shards data/shards --run vae --set loop.steps=20000`")
def train_vae(
    shards: ShardsOption = None,
    run: Annotated[str, typer.Option(help="Name of the run, a folder under runs/.")] = "vae",
    config: ConfigOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    keep: KeepOption = None,
    workspace: WorkspaceOption = None,
    json_lines: JsonOption = False,
) -> None:
    """Train the Body-ID Encoder: many views of a person to one latent of the body, and the bank of identities."""
    progress.use_json_lines(json_lines)
    from .config import load_config
    from .training import vae as room
    from .training.vae_config import VaeConfig

    where = Workspace.resolve(workspace)
    resolved = load_config(VaeConfig, config, assignments({"loop.keep": keep}, set_))
    summaries.run(room.train_vae(_shards(shards, where), where.run(run), resolved, resume))


@train.command("adapter", epilog="Example: `bolid train adapter --shards data/shards --body vae --run adapter`")
def train_adapter(
    shards: ShardsOption = None,
    body: Annotated[
        str | None, typer.Option(help="Run that trained the body encoder, or a folder with its weights. [default: vae]")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="SDXL base: a name of the registry or the hub, a folder, or random-tiny.")
    ] = None,
    lightning: Annotated[
        str | None, typer.Option(help="Its few-step UNet, for L_id and L_CLIP: a name, folder or file. [default: base]")
    ] = None,
    cache: Annotated[
        Literal["off", "on", "first", "only"] | None, typer.Option(help="Of latents, texts and posteriors.")
    ] = None,
    baseline: Annotated[
        Literal["none", "ip-adapter"] | None,
        typer.Option(help="ip-adapter: train without the body branch, for comparison. [default: none]"),
    ] = None,
    run: Annotated[str, typer.Option(help="Name of the run, a folder under runs/.")] = "adapter",
    config: ConfigOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    keep: KeepOption = None,
    workspace: WorkspaceOption = None,
    json_lines: JsonOption = False,
) -> None:
    """Train the Body-Condition Module: face and body branches on a frozen SDXL."""
    progress.use_json_lines(json_lines)
    from .config import load_config
    from .training import adapter as room
    from .training.adapter_config import AdapterConfig

    where = Workspace.resolve(workspace)
    options: dict[str, object] = {"body": body, "base": base, "baseline": baseline, "lightning.model": lightning}
    options |= {"cache.mode": cache, "loop.keep": keep}
    resolved = load_config(AdapterConfig, config, assignments(options, set_))
    folder = _shards(shards, where)
    summaries.run(room.train_adapter(folder, where.run(run), resolved, where.export(resolved.body), resume))


@train.command("cache", epilog="Example: `bolid train cache --shards data/shards --body vae`, then `--cache only`")
def train_cache(
    shards: ShardsOption = None,
    body: Annotated[str | None, typer.Option(help="As for bolid train adapter. [default: vae]")] = None,
    base: Annotated[str | None, typer.Option(help="As for bolid train adapter.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    json_lines: JsonOption = False,
) -> None:
    """Make latents, text and posteriors of all photos once, so that a run needs neither VAE nor text encoders."""
    progress.use_json_lines(json_lines)
    from .config import load_config
    from .training import cache_run as room
    from .training.adapter_config import AdapterConfig

    where = Workspace.resolve(workspace)
    resolved = load_config(AdapterConfig, config, assignments({"body": body, "base": base}, set_))
    room.tell(room.fill_cache(_shards(shards, where), where.runs, resolved, where.export(resolved.body)))


@runs_app.command("list", epilog="Example: `bolid runs list -w data`, also while a run goes on")
def runs_list(workspace: WorkspaceOption = None, json_lines: JsonOption = False) -> None:
    """List the training runs: kind, state, steps, last losses, size."""
    progress.use_json_lines(json_lines)
    from .training import runs as room

    room.tell_list(room.find(Workspace.resolve(workspace).runs))


@runs_app.command("show", epilog="Example: `bolid runs show adapter -w data`, then open `report.html` of the run")
def runs_show(
    name: Annotated[str, typer.Argument(help="Name of the run, a folder under runs/.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the page and the curves; default: the run's.")] = None,
    workspace: WorkspaceOption = None,
    json_lines: JsonOption = False,
) -> None:
    """Show a run: what its configuration changes, its curves as PNG and HTML, its newest sample grid."""
    progress.use_json_lines(json_lines)
    from .training import runs, runs_page

    runs_page.show(runs.folder_of(Workspace.resolve(workspace).runs, name), out)


@app.command(epilog='Example: `bolid generate "a person on a beach" --identity 3 --lambda-body 0.8`')
def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    run: Annotated[
        str, typer.Option(help="Adapter run, or a folder with its weights; none: the base alone.")
    ] = "adapter",
    body: Annotated[str, typer.Option(help="Run of the body encoder, or a folder with its weights.")] = "vae",
    identity: Annotated[str | None, typer.Option(help="Name or number of a stored identity.")] = None,
    photo: Annotated[list[Path] | None, typer.Option(help="Photo of one person; may be given several times.")] = None,
    face: Annotated[Path | None, typer.Option(help=".npy file with a face embedding.")] = None,
    base: Annotated[str | None, typer.Option(help="SDXL base; default: the one the adapter was trained on.")] = None,
    lightning: Annotated[str | None, typer.Option(help="Few-step UNet of the base: name, folder or file.")] = None,
    lambda_face: Annotated[float, typer.Option(help="Weight of the face branch; 0 is off.")] = 1.0,
    lambda_body: Annotated[float, typer.Option(help="Weight of the body branch; 0 is off.")] = 1.0,
    steps: Annotated[int, typer.Option(min=1, help="Sampler steps.")] = 4,
    guidance: Annotated[float, typer.Option(min=0, help="Above 1: the full scheduler with guidance.")] = 0.0,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT, px; default: what the adapter was trained at.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first picture; each further one adds 1.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Pictures.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder of the pictures; default: the workspace's.")] = None,
    workspace: WorkspaceOption = None,
    json_lines: JsonOption = False,
) -> None:
    """Make pictures of a person: body and face from a stored identity or photos, or from nothing but the text."""
    progress.use_json_lines(json_lines)
    from .config import validate
    from .generation import conditions
    from .generation import pipeline as room
    from .generation.config import GenerateConfig

    where = Workspace.resolve(workspace)
    options: dict[str, object] = {"lambda_face": lambda_face, "lambda_body": lambda_body, "lightning": lightning}
    options |= {"steps": steps, "guidance": guidance, "seed": seed, "count": count, **picture_size(size)}
    encoder = where.export(body) if identity is not None or photo else None
    person = conditions.Person(run=encoder, identity=identity, photos=tuple(photo or ()), face=face)
    made = room.generate(
        prompt,
        out or where.pictures,
        base=base,
        adapter=None if run == "none" else where.export(run),
        person=person,
        config=validate(GenerateConfig, options, "bolid generate"),
    )
    summaries.pictures(made)


@app.command("eval", epilog="Example: `bolid eval --shards data/shards --body vae --run adapter`")
def evaluate(
    shards: ShardsOption = None,
    body: Annotated[str, typer.Option(help="Run of the body encoder, or a folder with its weights.")] = "vae",
    run: Annotated[
        str, typer.Option(help="Adapter run, or a folder with its weights; none: the encoder alone.")
    ] = "adapter",
    out: Annotated[Path | None, typer.Option(help="Folder of figures and report; default: the workspace's.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    json_lines: JsonOption = False,
) -> None:
    """Measure on held-out people, each figure with the network that measured it."""
    progress.use_json_lines(json_lines)
    from .config import load_config
    from .evaluation import run as room
    from .evaluation.config import EvalConfig

    where = Workspace.resolve(workspace)
    resolved = load_config(EvalConfig, config, set_ or ())
    folder = out or where.evaluation
    adapter = None if run == "none" else where.export(run)
    summaries.figures(room.evaluate(_shards(shards, where), where.export(body), adapter, folder, resolved), folder)


@app.command(epilog="Example: `bolid demo --identities 8 --photos 24 --keep demo-output`")
def demo(
    identities: Annotated[int, typer.Option(min=3, help="Galleries of the site; one is held out.")] = 8,
    photos: Annotated[int, typer.Option(min=6, help="Photos a gallery offers, dirt included.")] = 24,
    keep: Annotated[Path | None, typer.Option(help="Keep all files in this folder (else a temporary one).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same people.")] = 0,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the site; 0 takes a free one.")] = 0,
) -> None:
    """Run the whole road on this machine: a site on loopback, crawled, curated, packed, trained on, measured."""
    from .demo import run as room

    room.demo(room.DemoOptions(identities, photos, keep, seed, port))


def _shards(given: Path | None, workspace: Workspace) -> Path:
    return given or workspace.required(workspace.shards, f"bolid pack -w {workspace.root}")


def _dataset(given: str | None, workspace: Path | None) -> str:
    return given or str(_shards(None, Workspace.resolve(workspace)))


def main() -> None:
    """Run the command line; a BolidError is one message and its exit code, a bug shows its traceback."""
    # At import transformers warns that torchvision, which nothing here uses, is not installed.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app()
    except BolidError as error:
        _fail(error)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA_OF:
            raise
        _fail(MissingExtraError(package, EXTRA_OF[package]))


def _fail(error: BolidError) -> None:
    if progress.json_lines():
        progress.result("error", error=type(error).__name__, message=str(error), exit_code=error.exit_code)
    else:
        print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
