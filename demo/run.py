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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pyarrow.parquet as pq

from .. import atomic, progress
from ..errors import BolidError, UsageError
from ..workspace import Workspace
from . import gallery, outcome, site

PROMPT = "a photo of a person standing, in a red shirt and blue trousers"
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
        with site.serving(site.GallerySite(offers, folder / "site"), options.port) as address:
            _run(crawl_command(address, data))
        for command in later_commands(data):
            _run(command)
        outcome.show(offers, Workspace(data), time.monotonic() - begun, kept=options.keep is not None)


def crawl_command(address: str, data: Path) -> list[str]:
    """Return the first command, as words after `bolid`."""
    host = address.removeprefix("http://")
    # The site is ours and on this machine, so it may be asked a thousand times a second.
    return ["crawl", address, "--allow-private", host, "--min-photos", "6", "--rate", "1000", "-w", str(data)]


def later_commands(data: Path) -> Iterator[list[str]]:
    """Yield the commands that need no site, as words after `bolid`; each is asked for when the one before is done."""
    where = ["-w", str(data)]
    shards = ["--shards", str(data / "shards")]
    yield ["curate", "--min-res", "1000", "--min-photos", "3", *where]
    yield ["pack", "--split", "0.75,0.25,0", *where]
    yield ["train", "vae", *shards, "--set", "size=demo", *where]
    yield ["train", "adapter", *shards, "--body", "vae", "--base", "random-tiny", *where]
    bank = pq.read_table(Workspace(data).run("vae") / "export" / "identities.parquet")
    yield ["generate", PROMPT, "--identity", bank["slug"][0].as_py(), "--count", "2", *where]
    yield ["eval", *shards, *where]


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
