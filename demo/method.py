"""`python -m bolid.demo.method [--out DIR] [--set key=value]`: the method on procedural people, and what it comes to.

Renders people of two worlds, packs them, trains the Body-ID Encoder and the Body-Condition Module on the first with the
product's own loops, and measures both on the second. Run again, it goes on where it was.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, NonNegativeInt, PositiveInt

from .. import atomic, progress
from ..config import Config, load_config, write_config
from ..errors import BolidError, UsageError
from ..workspace import Workspace
from . import method_data
from .method_data import World

SETTINGS_FILE = "settings.toml"
VAE, ADAPTER = "vae", "adapter"

VAE_KEYS: dict[str, Any] = {"size": "demo", "weights": {"info_nce": 1.0, "ratios": 1.0, "kl": 1e-4}}
VAE_LOOP: dict[str, Any] = {"identities_per_batch": 16}
ADAPTER_LOOP: dict[str, Any] = {}
"""What differs from the defaults of `bolid train vae` and of `bolid train adapter` on the demo's base."""

T = TypeVar("T")


class Settings(Config):
    """Sizes of everything; by the CPU time of its parts, the whole takes about ten minutes on two free cores."""

    training_world: NonNegativeInt = method_data.TRAINING
    held_out_world: NonNegativeInt = method_data.HELD_OUT
    training_people: PositiveInt = 256
    training_photos: PositiveInt = Field(default=6, ge=2, description="of each person")
    held_out_people: PositiveInt = Field(default=128, ge=2)
    held_out_photos: PositiveInt = Field(default=8, ge=8, description="of each person, for 4 + 4 disjoint views")
    vae_steps: PositiveInt = Field(default=800, description="updates of the Body-ID Encoder")
    adapter_steps: PositiveInt = Field(default=300, description="updates of the Body-Condition Module")
    picture_people: PositiveInt = Field(default=48, ge=2, description="of the held-out ones")
    picture_seeds: PositiveInt = Field(default=2, description="of each prompt")
    readers: NonNegativeInt = Field(default=1, description="processes that read photos while training")


def method(settings: Settings, out: Path, workers: int | None = None) -> None:
    """Do everything that an earlier run in `out` has not done yet, print the figures and write them.

    Args:
        settings: sizes.
        out: folder for everything.
        workers: processes that render; None means one a core.

    Raises:
        UsageError: `out` holds a run with other settings.
        WorkspaceError: another process is at work in `out`, or it cannot be written.
        TrainingError: a training failed.
    """
    from . import method_body, method_pictures, method_report

    with atomic.storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with atomic.locked(out / ".lock", f"the method in {out}"):
        _require_same(settings, out)
        clock, workspace = Clock(), Workspace(out / "data")
        renders = out / "renders"
        worlds = (
            World(settings.training_world, settings.training_people, settings.training_photos),
            World(settings.held_out_world, settings.held_out_people, settings.held_out_photos),
        )
        training, held_out = clock("render", lambda: [method_data.photographed(w, renders, workers) for w in worlds])
        shards = clock("pack", lambda: method_data.packed(training, held_out, workspace))
        vae = clock("train vae", lambda: train_body(settings, shards, workspace))
        known = clock("encode", lambda: method_body.encoded(vae, shards, settings.readers))
        examples = method_data.in_order(shards, held_out)
        figures = clock("probe", lambda: method_body.figures(known, examples))
        method_report.show(figures)
        adapter = clock("train adapter", lambda: train_adapter(settings, shards, workspace, vae))
        wanted = settings.picture_people, settings.picture_seeds
        figures += clock("pictures", lambda: method_pictures.figures(adapter, known, examples, *wanted, out))
        method_report.show(figures)
        method_report.write(out, figures, settings.model_dump(mode="json"), {"seconds": clock.seconds})
        progress.result("written", str(out / method_report.PAGE_FILE), path=str(out / method_report.PAGE_FILE))


class Clock:
    """Says what begins and how long it took; `seconds` by name, of this process's part of a resumed whole."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], T]) -> T:
        """Do `work` and return what it returned."""
        progress.say(f"{name} …")
        begun = time.monotonic()
        done = work()
        self.seconds[name] = round(time.monotonic() - begun, 1)
        progress.say(f"{name}: {self.seconds[name]:.0f} s")
        return done


def train_body(settings: Settings, shards: Path, workspace: Workspace) -> Path:
    """Train the Body-ID Encoder as `bolid train vae` does; return its export."""
    from ..training.vae import train_vae
    from ..training.vae_config import VaeConfig

    run = workspace.run(VAE)
    if not _finished(run):
        config = {**VAE_KEYS, "loop": _loop(settings, settings.vae_steps, VAE_LOOP)}
        train_vae(shards, run, VaeConfig.model_validate(config), resume=_begun(run))
    return workspace.export(VAE)


def train_adapter(settings: Settings, shards: Path, workspace: Workspace, vae: Path) -> Path:
    """Train the Body-Condition Module on the demo's base as `bolid train adapter` does; return its export."""
    from ..training.adapter import train_adapter as train
    from ..training.adapter_config import AdapterConfig
    from .method_pictures import BASE

    run = workspace.run(ADAPTER)
    if not _finished(run):
        config = {"base": BASE, "loop": _loop(settings, settings.adapter_steps, ADAPTER_LOOP)}
        train(shards, run, AdapterConfig.model_validate(config), vae, resume=_begun(run))
    return workspace.export(ADAPTER)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser("python -m bolid.demo.method", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("method-output"), help="folder of everything [%(default)s]")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. vae_steps=300")
    parser.add_argument("--workers", type=int, help="processes that render [one a core]")
    asked = parser.parse_args(arguments)
    try:
        method(load_config(Settings, None, asked.set), asked.out, asked.workers)
    except BolidError as error:
        progress.say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        progress.say("stopped; the same command goes on from here")
        return 130
    return 0


def _loop(settings: Settings, steps: int, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table `[loop]` of a training, without grids and validation on the way."""
    return {**more, "steps": steps, "workers": settings.readers, "sample_every": 0}


def _finished(run: Path) -> bool:
    from ..training.runs import look

    return (run / "config.toml").exists() and look(run).state == "finished"


def _begun(run: Path) -> bool:
    from ..training.runs import look

    return (run / "config.toml").exists() and (look(run).steps > 0 or (run / "checkpoints").exists())


def _require_same(settings: Settings, out: Path) -> None:
    file = out / SETTINGS_FILE
    wanted = settings.model_dump(mode="json", exclude={"readers"})
    if file.exists():
        written = load_config(Settings, file).model_dump(mode="json", exclude={"readers"})
        changed = [f"{key}: {written[key]} -> {wanted[key]}" for key in wanted if written[key] != wanted[key]]
        if changed:
            raise UsageError(f"{out} was begun with other settings ({'; '.join(changed)}); choose another --out")
    write_config(file, settings)


if __name__ == "__main__":
    sys.exit(main())
