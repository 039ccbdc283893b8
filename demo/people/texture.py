"""A tile of smooth noise, the same in every process, and its slopes."""

from functools import lru_cache

import numpy as np

from .arrays import Floats

SIZE = 512


@lru_cache(maxsize=1)
def noise_tile() -> Floats:
    """Tileable noise [512, 512] with features from 1/12 to 1/150 of the side, mean 0, standard deviation 0.5."""
    rng = np.random.Generator(np.random.PCG64(20240229))
    spectrum = np.fft.rfft2(rng.standard_normal((SIZE, SIZE)))
    cycles = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None]) * SIZE
    tile = np.fft.irfft2(spectrum * np.exp(-((cycles / 110) ** 2)) / (1 + (cycles / 12) ** 1.6), s=(SIZE, SIZE))
    tile -= tile.mean()
    return np.asarray(tile / (tile.std() * 2), np.float32)


@lru_cache(maxsize=1)
def slopes() -> tuple[Floats, Floats]:
    """Differences of the tile along its two axes, standard deviation 1."""
    tile = noise_tile()
    u, v = np.roll(tile, -1, 0) - np.roll(tile, 1, 0), np.roll(tile, -1, 1) - np.roll(tile, 1, 1)
    return (u / u.std()).astype(np.float32), (v / v.std()).astype(np.float32)


def sample(tile: Floats, u: Floats, v: Floats) -> Floats:
    """The tile's nearest values at (u, v) [N], where 1 is the tile's whole side."""
    i = (u * np.float32(SIZE)).astype(np.int32) & (SIZE - 1)
    j = (v * np.float32(SIZE)).astype(np.int32) & (SIZE - 1)
    return tile.ravel()[i * SIZE + j]
