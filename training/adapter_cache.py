"""How a run of the adapter uses the cache: where it is, what is loaded beside it, and when it is filled."""

from pathlib import Path

from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline

from .. import progress
from ..models.body_encoder import BodyEncoder
from ..models.sdxl import load_base
from . import cache_fill
from .adapter_config import AdapterConfig
from .adapter_data import sizes_of_rows
from .adapter_model import AdapterModel
from .cached_data import CachedDataset
from .config import LoopConfig
from .encoders import AdapterCache
from .task import Batch
from .trainer import accelerator_for

FOLDER = "cache"


def load(config: AdapterConfig) -> StableDiffusionXLPipeline:
    """Load the base; without VAE and text encoders where the cache has to hold all that they make.

    Raises:
        ModelError: the base is missing or no SDXL pipeline.
    """
    return load_base(config.base, encoders=config.cache.mode != "only")


def opened(
    config: AdapterConfig, run: Path, pipe: StableDiffusionXLPipeline, encoder: BodyEncoder
) -> AdapterCache | None:
    """Return the cache of a run, or None where the configuration wants none.

    Args:
        config: of the run.
        run: folder of the run; the cache is beside the folder of the runs, so that the runs of a workspace share it.
        pipe: the base as it was loaded.
        encoder: the body encoder as it was loaded.
    """
    if config.cache.mode == "off":
        return None
    root = Path(config.cache.folder) if config.cache.folder else run.absolute().parent.parent / FOLDER
    return AdapterCache(root, pipe, encoder, precision(config.loop))


def precision(loop: LoopConfig) -> str:
    """Return in which precision the frozen networks of a run work."""
    half = accelerator_for(loop).device.type == "cuda" and loop.mixed_precision != "no"
    return "bfloat16" if half else "float32"


def fill(model: AdapterModel, data: CachedDataset, examples: Batch, config: AdapterConfig) -> int:
    """Make what the cache does not have of a split and of the examples; each process takes its share.

    Args:
        model: on its device, with a cache.
        data: of the training split.
        examples: of the sample grids and the validation loss.
        config: of the run.

    Returns:
        Number of photos of the split whose entries were made.
    """
    accelerator = accelerator_for(config.loop)
    part = accelerator.process_index, accelerator.num_processes
    made = cache_fill.fill(model.encoders, data, sizes_of_rows(data, config), config.loop.workers, part)
    cache_fill.make(model.encoders, examples, [data.caption(text) for text in examples["caption"]])
    if model.encoders.cache is not None:
        model.encoders.cache.flush()
        progress.say(f"cache {model.encoders.cache.root}: {made} photos added, {len(data) - made} were there")
    return made
