"""The perceptual distance against transformers' own tower in double precision, on a CLIP of random weights."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from bolid.demo import people
from bolid.errors import ModelError
from bolid.models import registry
from bolid.models.perceptual import PerceptualDistance
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import CLIPModel


def beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny_clip = beside("tiny_clip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_clip.make(tmp_path_factory.mktemp("clip"))
    return made


@pytest.fixture(scope="module")
def distance(folder: Path) -> PerceptualDistance:
    return PerceptualDistance(folder)


def pictures(seed: int, width: int = 32) -> Tensor:
    return torch.rand(2, 3, 32, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_it_is_the_mean_over_layers_and_patches_of_twice_one_minus_the_cosine(
    folder: Path, distance: PerceptualDistance
) -> None:
    """A picture of the tower's size is neither scaled nor padded; |a − b|² = 2 − 2 cos for vectors of length 1."""
    tower = CLIPModel.from_pretrained(folder).double().vision_model
    mean, deviation = (torch.tensor(v).double()[:, None, None] for v in (tiny_clip.MEAN, tiny_clip.DEVIATION))
    with torch.no_grad():
        states = [
            tower(pixel_values=((p.double() + 1) / 2 - mean) / deviation, output_hidden_states=True).hidden_states
            for p in (pictures(1), pictures(2))
        ]
    expected = torch.zeros(2, dtype=torch.float64)
    for layer in (1, 2):  # both layers of the small tower
        first, second = (state[layer] for state in states)
        for patch in range(1, 17):
            cosine = torch.nn.functional.cosine_similarity(first[:, patch], second[:, patch])
            expected += (2 - 2 * cosine) / 16 / 2
    found = distance(pictures(1), pictures(2))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)
    assert found.min() > 0.01
    assert distance(pictures(1), pictures(1)).abs().max() < 1e-9


def test_all_of_a_tall_picture_counts_and_nothing_is_squeezed(distance: PerceptualDistance) -> None:
    tall, other = pictures(3, 24), pictures(3, 24)
    for row in (0, 31):
        changed = other.clone()
        changed[:, :, row] = 1
        assert distance(changed, tall).min() > 1e-6
    framed = distance._framed(tall)
    assert framed.shape == (2, 3, 32, 32)
    assert not framed[..., :4].any()
    assert not framed[..., 28:].any()
    inside = framed[..., 4:28] * torch.tensor(tiny_clip.DEVIATION)[:, None, None]
    torch.testing.assert_close(2 * (inside + torch.tensor(tiny_clip.MEAN)[:, None, None]) - 1, tall)
    assert distance(pictures(4, 20)[..., :10], pictures(5, 20)[..., :10]).shape == (2,)


def test_a_trained_tower_puts_blurred_photos_nearer_than_other_people() -> None:
    distance = PerceptualDistance(registry.resolve("demo-clip").path)
    photos = [people.take_photo(83_011, identity, 0, size=(96, 128)).image.copy() for identity in range(6)]
    target = torch.stack([torch.from_numpy(photo).permute(2, 0, 1).float() / 127.5 - 1 for photo in photos])
    blurred = [interpolate(interpolate(target, scale_factor=by, mode="area"), size=(128, 96)) for by in (0.5, 0.125)]
    with torch.no_grad():
        little, much, other = (distance(drawn, target) for drawn in (*blurred, target.roll(1, 0)))
    assert (little < much).all()
    assert (much < other).all()


def test_what_lies_outside_the_mask_costs_nothing(distance: PerceptualDistance) -> None:
    target, drawn = pictures(6), pictures(7)
    mask = torch.zeros(2, 1, 32, 32)
    mask[:, :, 8:24] = 1
    agreeing = torch.where(mask > 0, target, drawn).requires_grad_(True)
    assert distance(agreeing, target, mask).abs().max() < 1e-9
    leaf = drawn.clone().requires_grad_(True)
    value = distance(leaf, target, mask)
    value.sum().backward()
    assert value.min() > 0.001
    assert leaf.grad is not None
    assert not leaf.grad[:, :, :8].any()
    assert leaf.grad[:, :, 8:24].any()


def test_the_gradient_is_that_of_finite_differences_and_reaches_no_weight(folder: Path) -> None:
    distance = PerceptualDistance(folder)
    target, drawn = pictures(8), pictures(9)
    direction = torch.randn(drawn.shape, generator=torch.Generator().manual_seed(3))
    leaf = drawn.clone().requires_grad_(True)
    distance(leaf, target).sum().backward()
    assert leaf.grad is not None
    step = 3e-3
    with torch.no_grad():
        ends = [float(distance(drawn + sign * step * direction, target).double().sum()) for sign in (1, -1)]
    assert float((leaf.grad * direction).sum()) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=0.05)
    assert all(p.grad is None and not p.requires_grad for p in distance.network.parameters())


def test_a_folder_without_a_whole_tower_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="bolid models pull clip-vit-large-patch14"):
        PerceptualDistance(tmp_path / "none")
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    weights = load_file(folder / "model.safetensors")
    gone = next(key for key in weights if "vision_model" in key and "layers.1" in key)
    save_file({k: v for k, v in weights.items() if k != gone}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="it lacks 1 tensors"):
        PerceptualDistance(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be loaded as CLIP"):
        PerceptualDistance(tmp_path)
