"""`bolid demo`: the whole road, each step the public command that a user would type, and a table of what came out."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pyarrow.parquet as pq

from .. import atomic, progress
from ..crawler.suppress import NAME as SUPPRESS_FILE
from ..curation import networks
from ..errors import BolidError, MissingExtraError, ModelError, UsageError
from ..workspace import Workspace
from . import gallery, outcome, site

PROMPT = "a full-length photo of a person wearing a red shirt and blue trousers, standing in a park"
MIN_SHARPNESS = 10.0
"""Sharpness below which a photo is blurred. Of 288 photos of twelve galleries (seed 101, 512 px), the blurred ones have
0.9 to 1.9, the others 61 and more, empty rooms 18 and more."""
FACE_LIMITS = ("face.min_score=0.6", "identity.same=0.35", "identity.keep=0.4", "identity.reject=0.28")
"""Thresholds for demo-face, from the same galleries: from this score on boxes hold their face; all but one of the good
photos had a cosine to their gallery's centre of 0.43 and more, strangers of 0.11 at most. Its own cosine of a pair, at
1e-3 false matches, is too high to group by: it parts photos of one person."""
STOP_GRACE_S = 10.0
"""How long a command may take to end after Ctrl-C before it is killed."""


@dataclass(frozen=True)
class DemoOptions:
    """Options of `bolid demo`; `keep` None means a temporary folder that is removed at the end."""

    identities: int = 8
    photos: int = 24
    keep: Path | None = None
    seed: int = 0
    port: int = 0


class CommandFailed(BolidError):
    """A command of the demo returned non-zero; the demo returns the same code, so this class has none of its own."""

    def __init__(self, command: str, code: int) -> None:
        super().__init__(f"the demo stopped: `{command}` returned {code}; what it wrote above says why")
        self.exit_code = code


def demo(options: DemoOptions) -> None:
    """Run the demo and print its table; when it is stopped, by Ctrl-C or a signal, no process stays behind.

    Raises:
        UsageError: too few identities or photos.
        CommandFailed: a step failed.
        WorkspaceError: the folder is in use by another demo or cannot be written.
    """
    begun = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup means it
            signal.signal(number, _interrupt)
    with _folder(options) as folder, atomic.locked(folder / "demo.lock", f"the demo in {folder}"):
        data = folder / "data"
        if data.exists() and not (folder / "site" / gallery.TRUTH_FILE).exists():
            raise UsageError(f"{data} was not made by a demo and would be emptied; choose another --keep DIR")
        offers = gallery.build(folder / "site", options.identities, options.photos, options.seed)
        shutil.rmtree(data, ignore_errors=True)  # a demo shows the road from its beginning
        unwanted = opted_out(offers)
        with site.serving(site.GallerySite(offers, folder / "site"), options.port) as address:
            atomic.write_text(data / SUPPRESS_FILE, f"# asked not to be here\n{address}{unwanted.page_path}\n")
            _run(crawl_command(address, data))
        for command in later_commands(data):
            _run(command)
        outcome.show(offers, unwanted, Workspace(data), time.monotonic() - begun, kept=options.keep is not None)


def opted_out(offers: Sequence[gallery.Offer]) -> gallery.Offer:
    """Return the photo that the demo's suppress.txt names: a good one that no other photo repeats."""
    copied = {gallery.group_of(offer) for offer in offers if offer.copy_of is not None}
    return next(o for o in offers if o.kind == gallery.Kind.CLEAN and gallery.group_of(o) not in copied)


def crawl_command(address: str, data: Path) -> list[str]:
    """Return the first command, as words after `bolid`."""
    host = address.removeprefix("http://")
    # The site is ours and on this machine, so it may be asked a thousand times a second.
    return ["crawl", address, "--allow-private", host, "--min-photos", "6", "--rate", "1000", "-w", str(data)]


def later_commands(data: Path) -> Iterator[list[str]]:
    """Yield the commands that need no site, as words after `bolid`; each is asked for when the one before is done."""
    where = ["-w", str(data)]
    shards = ["--shards", str(data / "shards")]
    yield ["status", *where]
    judged_by = [word for part in ("pose", "face") for word in network_options(part)]
    limits = [f"quality.min_sharpness={MIN_SHARPNESS:g}", *FACE_LIMITS]
    chosen = [word for limit in limits for word in ("--set", limit)]
    yield ["curate", "--min-res", "1000", "--min-photos", "3", *judged_by, *chosen, *where]
    yield ["pack", "--split", "0.75,0.25,0", *where]
    yield ["shards", "stats", str(data / "shards")]
    yield ["train", "vae", *shards, "--set", "size=demo", *where]
    yield ["train", "adapter", *shards, "--body", "vae", "--base", "demo-base", *where]
    bank = pq.read_table(Workspace(data).run("vae") / "export" / "identities.parquet")
    few_step = ["--lightning", "demo-base-lightning"]
    yield ["generate", PROMPT, "--identity", bank["slug"][0].as_py(), "--count", "2", *few_step, *where]
    yield ["eval", *shards, *where]


def network_options(part: networks.Part) -> list[str]:
    """Return the words that name the demo's network of a part, or `none`, said why, where it cannot run."""
    name = f"demo-{part}"
    try:
        networks.choose(part, name)
    except (MissingExtraError, ModelError) as error:
        progress.say(f"without {part}: {error}")
        name = networks.NONE
    return [f"--{part}", name]


@contextlib.contextmanager
def _folder(options: DemoOptions) -> Iterator[Path]:
    if options.keep is not None:
        with atomic.storage_errors(options.keep):
            options.keep.mkdir(parents=True, exist_ok=True)
        yield options.keep
        return
    with tempfile.TemporaryDirectory(prefix="bolid-demo-") as name:
        yield Path(name)


def _run(words: list[str]) -> None:
    shown = shlex.join(["bolid", *words])
    progress.say(f"\n$ {shown}")
    begun = time.monotonic()
    # Ctrl-C is not sent to the command by the terminal (own group) but by _stop, so that it arrives exactly once.
    process = subprocess.Popen([sys.executable, "-m", "bolid.cli", *words], start_new_session=True)
    try:
        code = process.wait()
    except BaseException:
        _stop(process)
        raise
    if code:
        raise CommandFailed(shown, code)
    progress.say(f"({time.monotonic() - begun:.0f} s)")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a command and everything that it started: first by asking, then by force."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # workers that outlived their parent
