"""The base's autoencoder: 128x128 pixels to 16x16 latents of twelve channels, and back.

The encoder is not trained: it is the principal component transform of 8x8 blocks, written into the layers of
`AutoencoderKL`. The decoder starts as the bilinear enlargement of the blocks' mean colours and learns the rest. An
encoder learnt from nothing together with its decoder had lost most colours after an hour's tenth on a core, where the
transform keeps 27 dB at once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from ... import progress
from .base_checkpoint import load_checkpoint, rate_at, save_checkpoint, shuffled

FACTOR = 8
CHANNELS = 12
"""SDXL has four; at 128x128 a person is a few latents wide, and four components lose stripes, dots and faces."""

WIDTHS = (16, 32, 64, 96)
GROUPS = 4
STEADY = 20.0
"""Constant channels of this size beside +x and -x make a group norm nearly linear; SiLU(x) - SiLU(-x) is x."""

LOG_VARIANCE = -10.0


@dataclass(frozen=True)
class VaeSettings:
    """How the decoder is trained."""

    steps: int = 4000
    batch: int = 4
    rate: float = 1.5e-3
    warmup: int = 50
    edges: float = 0.25  # weight of the difference of neighbouring pixels' differences
    noise: float = 0.05  # added to scaled latents, so that latents that are a little off decode well too
    seed: int = 1


def new_vae() -> AutoencoderKL:
    """An untrained autoencoder of SDXL's class and kind of layout."""
    vae: AutoencoderKL = AutoencoderKL(
        block_out_channels=WIDTHS,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=GROUPS,
        sample_size=128,
        mid_block_add_attention=False,
        force_upcast=False,
        scaling_factor=1.0,
    )
    return vae


def signed(images: NDArray[np.uint8] | Tensor) -> Tensor:
    """uint8 images as float32 in -1..1."""
    return torch.as_tensor(images).float() / 127.5 - 1


@dataclass(frozen=True)
class Transform:
    """A linear map of 8x8 blocks [192] to latents of unit variance over all channels, in two stages as the encoder's.

    small: [32, 48], of 4x4 blocks; large: [12, 4, 32], of four such; mean: [12], subtracted.
    """

    small: Tensor
    large: Tensor
    mean: Tensor

    def __call__(self, images: NDArray[np.uint8] | Tensor) -> Tensor:
        """Latents [N, 12, H / 8, W / 8] of images [N, 3, H, W]."""
        n, _, height, width = images.shape
        blocks = torch.nn.functional.unfold(signed(images), 4, stride=4)
        grid = torch.einsum("os,nsl->nol", self.small, blocks).view(n, -1, height // 8, 2, width // 8, 2)
        weights = self.large.view(CHANNELS, 2, 2, -1)
        return torch.einsum("cyxo,nohywx->nchw", weights, grid) - self.mean[:, None, None]


def fit_transform(images: NDArray[np.uint8]) -> Transform:
    """Principal components of the blocks of images [N, 3, H, W] and their mirror images.

    Components are divided by the square root of their standard deviation: whitened, the faintest detail would count as
    much as the colour of everything; left as they are, next to nothing.
    """
    both = torch.cat([torch.as_tensor(images), torch.as_tensor(images).flip(-1)])
    pixels = signed(both)
    fine = torch.nn.functional.unfold(pixels, 4, stride=4).transpose(1, 2).reshape(-1, 48)
    small = _components(fine, WIDTHS[1])[0]
    n, _, height, width = pixels.shape
    grid = (
        (fine @ small.T).view(n, height // 8, 2, width // 8, 2, -1).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4 * WIDTHS[1])
    )
    vectors, deviation = _components(grid, CHANNELS)
    vectors = vectors / deviation.sqrt()[:, None]
    vectors = vectors / (grid @ vectors.T).var(0).mean().sqrt()
    return Transform(small, vectors.view(CHANNELS, 4, -1), (grid @ vectors.T).mean(0))


def _components(rows_ND: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first principal components [count, D] and their standard deviations [count]."""
    values, vectors = torch.linalg.eigh(torch.cov(rows_ND.T.double()))
    order = values.argsort(descending=True)[:count]
    return vectors[:, order].T.float().contiguous(), values[order].sqrt().float()


@torch.no_grad()
def write_encoder(vae: AutoencoderKL, transform: Transform) -> None:
    """Make the encoder of `vae` compute the transform, exactly up to the group norm's thousandth."""
    encoder: Any = vae.encoder
    for name, p in encoder.named_parameters():
        if "norm" not in name:
            p.zero_()
    _centre(encoder.conv_in, torch.eye(3))
    blocks = encoder.down_blocks
    for shift, conv, table in (
        (3, blocks[0].downsamplers[0].conv, _packing(3)),
        (12, blocks[1].downsamplers[0].conv, _regrouped(transform.small)),
        (WIDTHS[1], blocks[2].downsamplers[0].conv, transform.large),
    ):
        for place in range(4):
            conv.weight[: len(table), :shift, place // 2, place % 2] = table[:, place]
    blocks[2].downsamplers[0].conv.bias[:CHANNELS] = -transform.mean
    for block, width in ((blocks[1], 12), (blocks[2], WIDTHS[1])):
        _centre(block.resnets[0].conv_shortcut, torch.eye(width))
    each, size = CHANNELS // GROUPS, WIDTHS[3] // GROUPS
    shortcut = blocks[3].resnets[0].conv_shortcut
    for channel in range(CHANNELS):
        group, place = divmod(channel, each)
        plus = group * size + 2 * place
        shortcut.weight[plus, channel], shortcut.weight[plus + 1, channel] = 1, -1
        encoder.conv_out.weight[channel, plus, 1, 1], encoder.conv_out.weight[channel, plus + 1, 1, 1] = 1, -1
    for group in range(GROUPS):
        rest = range(group * size + 2 * each, (group + 1) * size)
        shortcut.bias[rest[::2]], shortcut.bias[rest[1::2]] = STEADY, -STEADY
    encoder.conv_norm_out.weight.fill_((STEADY**2 * (size - 2 * each) / size + 2 * each / size) ** 0.5)
    encoder.conv_out.bias[CHANNELS:] = LOG_VARIANCE
    _centre(vae.quant_conv, torch.eye(2 * CHANNELS))


def _centre(conv: Any, matrix: Tensor) -> None:  # noqa: ANN401 - a convolution that may be absent in other VAEs
    middle = conv.weight.shape[-1] // 2
    conv.weight.zero_()
    conv.bias.zero_()
    conv.weight[: len(matrix), : matrix.shape[1], middle, middle] = matrix


def _packing(channels: int) -> Tensor:
    """Four neighbouring pixels as channels: [4 C, 4, C]."""
    return torch.eye(4 * channels).view(4 * channels, 4, channels)


def _regrouped(small_O48: Tensor) -> Tensor:
    """The map of 4x4 blocks as one of four packed 2x2 blocks: [O, 4, 12]."""
    table = small_O48.view(-1, 3, 2, 2, 2, 2)  # colour, y outer, y inner, x outer, x inner
    return table.permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, 12)


@torch.no_grad()
def start_decoder(vae: AutoencoderKL, colours_3C: Tensor, mean_3: Tensor) -> None:
    """Start the decoder as a bilinear enlargement of each block's mean colour, a linear map of the latents.

    Three channels carry the colour past residual blocks that begin as nothing; the others begin at random.
    """
    decoder: Any = vae.decoder
    _centre(vae.post_quant_conv, torch.eye(CHANNELS))
    decoder.conv_in.weight[:3] = 0
    decoder.conv_in.weight[:3, :, 1, 1] = colours_3C
    decoder.conv_in.bias[:3] = mean_3
    ramp = torch.tensor([0.25, 0.5, 0.25])
    for block in [decoder.mid_block, *decoder.up_blocks]:
        for resnet in block.resnets:
            resnet.conv2.weight.zero_()
            resnet.conv2.bias.zero_()
            if resnet.conv_shortcut is not None:
                _carry(resnet.conv_shortcut, torch.ones(1, 1))
        for upsampler in getattr(block, "upsamplers", None) or ():
            _carry(upsampler.conv, torch.outer(ramp, ramp))
    size = WIDTHS[0] // GROUPS
    last = decoder.up_blocks[-1].resnets[0].conv_shortcut
    last.weight[: 3 * size] = 0
    last.bias[: 3 * size] = 0
    decoder.conv_out.weight.mul_(0.1)
    for colour in range(3):
        first = colour * size
        last.weight[first, colour], last.weight[first + 1, colour] = 1, -1
        last.bias[first + 2], last.bias[first + 3] = STEADY / 2, -STEADY / 2
        decoder.conv_out.weight[:, first : first + size] = 0
        decoder.conv_out.weight[colour, first, 1, 1], decoder.conv_out.weight[colour, first + 1, 1, 1] = 1, -1
    decoder.conv_norm_out.weight[: 3 * size] = STEADY / 2 / 2**0.5
    decoder.conv_out.bias.zero_()


def _carry(conv: Any, kernel: Tensor) -> None:  # noqa: ANN401 - as above
    """Pass the first three channels through with a kernel and without anything from the others."""
    conv.weight[:3] = 0
    conv.bias[:3] = 0
    for colour in range(3):
        conv.weight[colour, colour] = kernel


def start_vae(images: NDArray[np.uint8], transform: Transform, seed: int) -> AutoencoderKL:
    """The autoencoder before training: the transform as its encoder, mean colours as its decoder."""
    torch.manual_seed(seed)
    vae = new_vae()
    write_encoder(vae, transform)
    latents = transform(images[:512]).permute(0, 2, 3, 1).reshape(-1, CHANNELS)
    means = torch.nn.functional.avg_pool2d(signed(images[:512]), FACTOR).permute(0, 2, 3, 1).reshape(-1, 3)
    rows = torch.cat([latents, torch.ones(len(latents), 1)], 1)
    fit = torch.linalg.lstsq(rows, means).solution.T
    start_decoder(vae, fit[:, :CHANNELS], fit[:, CHANNELS])
    return vae


def train_decoder(images: NDArray[np.uint8], transform: Transform, settings: VaeSettings, work: Path) -> AutoencoderKL:
    """Train the decoder on images [N, 3, 128, 128] and their mirror images, going on from the checkpoint in `work`.

    The rate rises linearly over the warm-up and falls along a cosine to nothing.
    """
    vae = start_vae(images, transform, settings.seed)
    vae.encoder.requires_grad_(False)
    parts: Any = [vae.decoder, vae.post_quant_conv]
    learnt = torch.nn.ModuleList(parts)
    optimizer = torch.optim.AdamW(learnt.parameters(), settings.rate, betas=(0.9, 0.99), weight_decay=0.0)
    file = work / "decoder.pt"
    start = load_checkpoint(file, settings, learnt=learnt, optimizer=optimizer)
    rng = torch.Generator().manual_seed(settings.seed * 1_000_003 + start)
    batches = shuffled(len(images), settings.batch, settings.seed, start)
    with progress.bar("decoder", settings.steps - start) as bar:
        for step in range(start, settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, settings.steps, settings.warmup, settings.rate)
            chosen = torch.from_numpy(images[next(batches)])
            chosen = chosen.flip(-1) if step % 2 else chosen
            latents = transform(chosen)
            latents = latents + settings.noise * torch.randn(latents.shape, generator=rng)
            loss = _loss(vae, latents, signed(chosen), settings)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(learnt.parameters(), 1.0)
            optimizer.step()
            bar.advance(1)
            if (step + 1) % 100 == 0:
                save_checkpoint(file, settings, step + 1, learnt=learnt, optimizer=optimizer)
                print(f"decoder step {step + 1} loss {loss.item():.4f} psnr {psnr(vae, images[:16]):.2f}", flush=True)
    return vae.eval().requires_grad_(False)


def _loss(vae: AutoencoderKL, latents_BCHW: Tensor, pixels_B3HW: Tensor, settings: VaeSettings) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        made = vae.decode(latents_BCHW).sample
    difference: Tensor = made.float() - pixels_B3HW
    across, down = difference.diff(dim=-1), difference.diff(dim=-2)
    loss: Tensor = difference.abs().mean() + settings.edges * (across.abs().mean() + down.abs().mean())
    return loss


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images uint8 [N, 3, H, W] through the mean of the posterior and back."""
    parts = np.array_split(images, -(-len(images) // 16))
    made = [vae.decode(vae.encode(signed(part)).latent_dist.mean).sample for part in parts]
    return np.asarray(((torch.cat(made).clamp(-1, 1) + 1) * 127.5).round().byte().numpy())


def psnr(vae: AutoencoderKL, images: NDArray[np.uint8]) -> float:
    """Mean over images of the peak signal-to-noise ratio of the reconstruction, dB."""
    error = (reconstruct(vae, images).astype(np.float64) - images) ** 2
    return float((10 * np.log10(255**2 / error.mean((1, 2, 3)))).mean())
