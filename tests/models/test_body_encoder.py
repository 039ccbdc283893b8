from itertools import pairwise
from pathlib import Path

import pytest
import torch
from bolid.errors import ModelError
from bolid.models.body_config import BodyConfig
from bolid.models.body_encoder import BodyDecoder, BodyEncoder, aggregate_views, random_init
from bolid.models.heatmaps import body_heatmaps
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

SMALL = BodyConfig(width=24, height=32, latent=8, channels=(8, 16, 16))


def views(batch: int, count: int, latent: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mu, logvar = (torch.randn(batch, count, latent, generator=generator, dtype=torch.float64) for _ in range(2))
    return mu, logvar, torch.rand(batch, count, generator=generator, dtype=torch.float64)


def crops(batch: int, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(batch, count, 3, SMALL.height, SMALL.width, generator=generator) * 2 - 1
    return pixels, torch.rand(batch, count, 17, 3, generator=generator) * torch.tensor([24.0, 32.0, 1.0])


def test_the_product_equals_the_densities_multiplied_on_a_grid() -> None:
    """The definition itself: p(z) ∝ N(z; 0, 1) · Π N(z; mu_v, var_v)^w_v, integrated numerically."""
    mu, logvar, weight = views(1, 3, latent=1)
    z = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    log_density = -0.5 * z.square()
    for v in range(3):
        log_density = log_density - weight[0, v] * 0.5 * (z - mu[0, v, 0]).square() / logvar[0, v, 0].exp()
    density = (log_density - log_density.max()).exp()
    density = density / density.sum()
    mean = (density * z).sum()
    variance = (density * (z - mean).square()).sum()
    found_mu, found_logvar = aggregate_views(mu, logvar, weight)
    torch.testing.assert_close(found_mu[0, 0], mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found_logvar[0, 0].exp(), variance, rtol=1e-9, atol=1e-9)


def test_no_view_gives_the_prior() -> None:
    mu, logvar = aggregate_views(*views(2, 0))
    assert torch.equal(mu, torch.zeros(2, 5, dtype=torch.float64))
    assert torch.equal(logvar, torch.zeros(2, 5, dtype=torch.float64))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10**6))
def test_the_order_of_the_views_does_not_matter(count: int, seed: int) -> None:
    mu, logvar, weight = views(2, count, seed=seed)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    for a, b in zip(
        aggregate_views(mu, logvar, weight),
        aggregate_views(mu[:, order], logvar[:, order], weight[:, order]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 6), st.integers(0, 10**6), st.sampled_from([0.0, 1e30, float("nan"), float("inf")]))
def test_a_view_of_weight_zero_changes_nothing(count: int, seed: int, content: float) -> None:
    mu, logvar, weight = views(2, count, seed=seed)
    extra = torch.full((2, 1, 5), content, dtype=torch.float64)
    with_extra = aggregate_views(
        torch.cat([mu, extra], 1),
        torch.cat([logvar, extra.nan_to_num(0)], 1),
        torch.cat([weight, weight.new_zeros(2, 1)], 1),
    )
    for a, b in zip(aggregate_views(mu, logvar, weight), with_extra, strict=True):
        assert torch.equal(a, b)


def test_more_agreeing_views_shrink_the_variance() -> None:
    mu, logvar, _ = views(1, 1)
    variances = [
        aggregate_views(mu.expand(1, n, 5), logvar.expand(1, n, 5), mu.new_ones(1, n))[1].exp() for n in range(5)
    ]
    assert all((after < before).all() for before, after in pairwise(variances))


def test_a_view_with_half_the_weight_counts_half() -> None:
    mu, logvar, _ = views(1, 1)
    once = aggregate_views(mu, logvar, mu.new_ones(1, 1))
    twice_half = aggregate_views(mu.expand(1, 2, 5), logvar.expand(1, 2, 5), mu.new_full((1, 2), 0.5))
    for a, b in zip(once, twice_half, strict=True):
        torch.testing.assert_close(a, b)


def test_the_encoder_sees_views_apart_and_together() -> None:
    encoder, _ = random_init(SMALL)
    pixels, keypoints = crops(2, 3)
    mu, logvar = encoder(pixels, keypoints)
    assert mu.shape == logvar.shape == (2, 3, 8)
    alone, _ = encoder(pixels[:, 1:2], keypoints[:, 1:2])
    torch.testing.assert_close(mu[:, 1:2], alone, rtol=1e-4, atol=1e-5)
    weight = torch.rand(2, 3)
    for a, b in zip(encoder.encode(pixels, keypoints, weight), aggregate_views(mu, logvar, weight), strict=True):
        torch.testing.assert_close(a, b)


def test_under_autocast_the_posterior_keeps_the_precision_of_float32() -> None:
    encoder, _ = random_init(SMALL)
    pixels, keypoints = crops(2, 3)
    with torch.no_grad():
        exact = encoder(pixels, keypoints)
        with torch.autocast("cpu", torch.bfloat16):
            found = encoder(pixels, keypoints)
    for rounded, value in zip(found, exact, strict=True):
        assert rounded.dtype == torch.float32
        assert (rounded.bfloat16().float() != rounded).float().mean() > 0.9, "else it was made in bfloat16"
        torch.testing.assert_close(rounded, value, rtol=0.1, atol=0.02)


def test_the_encoder_without_views_gives_the_prior() -> None:
    encoder, _ = random_init(SMALL)
    pixels, keypoints = crops(2, 0)
    mu, logvar = encoder.encode(pixels, keypoints, torch.ones(2, 0))
    assert (mu.abs().sum(), logvar.abs().sum()) == (0, 0)


def test_the_pose_matters_and_its_pixels_follow_the_crop() -> None:
    encoder, decoder = random_init(SMALL)
    pixels, keypoints = crops(1, 1)
    pixels = torch.nn.functional.interpolate(pixels[0, :, :, :4, :3], (32, 24), mode="bilinear")[None]
    assert not torch.equal(encoder(pixels, keypoints)[0], encoder(pixels, keypoints * 0)[0])
    large = torch.nn.functional.interpolate(pixels[0], scale_factor=2.0, mode="bilinear")[None]
    seen = encoder(large, keypoints * torch.tensor([2.0, 2.0, 1.0]))[0]
    assert (seen - encoder(pixels, keypoints)[0]).abs().max() < 0.1
    drawn = decoder(torch.zeros(1, 8), keypoints[:, 0])
    assert drawn.shape == (1, 3, 32, 24)
    assert drawn.abs().max() <= 1
    assert not torch.equal(drawn, decoder(torch.zeros(1, 8), keypoints[:, 0] * 0))
    assert decoder.ratios(torch.zeros(1, 8)).shape == (1, 6)


def test_heatmaps_peak_at_the_keypoint_with_its_confidence() -> None:
    keypoints = torch.zeros(17, 3)
    keypoints[5] = torch.tensor([10.5, 20.5, 0.8])  # the left shoulder is the first body keypoint
    keypoints[16] = torch.tensor([100.0, 20.0, 1.0])  # outside
    maps = body_heatmaps(keypoints, (24, 32), (24, 32), sigma=0.05)
    assert maps.shape == (12, 32, 24)
    assert maps[0].max() == pytest.approx(0.8)
    assert divmod(int(maps[0].argmax()), 24) == (20, 10)
    assert maps[0, 20, 12] == pytest.approx(0.8 * torch.exp(torch.tensor(-0.5 * (2 / 1.6) ** 2)).item())
    assert maps[1:].max() < 1e-6
    half = body_heatmaps(keypoints, (24, 32), (12, 16), sigma=0.05)
    torch.testing.assert_close(half[0].argmax(), torch.tensor(10 * 12 + 5))


def test_weights_come_back(tmp_path: Path) -> None:
    for network in random_init(SMALL):
        network.save(tmp_path)
    encoder, decoder = BodyEncoder.load(tmp_path), BodyDecoder.load(tmp_path)
    for network, again in zip(random_init(SMALL), (encoder, decoder), strict=True):
        assert not again.training
        assert again.config == SMALL
        assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "encoder.safetensors", "decoder.safetensors"}


def test_random_init_is_a_function_of_the_seed() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    a, b, c = (random_init(SMALL, seed)[0].posterior.weight for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="bolid train vae"):
        BodyEncoder.load(tmp_path)
    encoder, _ = random_init(SMALL)
    encoder.save(tmp_path)
    with pytest.raises(ModelError, match=r"decoder\.safetensors"):
        BodyDecoder.load(tmp_path)
    (tmp_path / "config.json").write_text(SMALL.model_copy(update={"latent": 9}).model_dump_json())
    with pytest.raises(ModelError, match="does not fit"):
        BodyEncoder.load(tmp_path)
    (tmp_path / "config.json").write_text('{"latnt": 8}')
    with pytest.raises(ModelError, match="latnt"):
        BodyEncoder.load(tmp_path)
    (tmp_path / "config.json").write_text(SMALL.model_dump_json())
    (tmp_path / "encoder.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="does not fit"):
        BodyEncoder.load(tmp_path)


def test_sizes_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        BodyConfig(width=20, height=32, channels=(8, 8, 8))


def test_the_real_sizes() -> None:
    encoder, decoder = random_init(BodyConfig())
    assert encoder(torch.zeros(1, 1, 3, 256, 192), torch.zeros(1, 1, 17, 3))[0].shape == (1, 1, 256)
    with torch.no_grad():
        assert decoder(torch.zeros(1, 256), torch.zeros(1, 17, 3)).shape == (1, 3, 256, 192)
