"""The projectors against diffusers' FaceID projection, and their layout."""

import pytest
import torch
from bolid.models.projectors import BodyProjector, FaceProjector, TokenProjector
from diffusers.models.embeddings import IPAdapterFaceIDImageProjection


@pytest.mark.parametrize("projector", [FaceProjector(64, 4), BodyProjector(64, 16, 24)])
def test_equals_the_projection_of_diffusers(projector: TokenProjector) -> None:
    width, tokens = projector.cross_attention_dim, projector.tokens
    stock = IPAdapterFaceIDImageProjection(projector.condition_dim, width, mult=2, num_tokens=tokens)
    names = {"proj.0": "ff.net.0.proj", "proj.2": "ff.net.2", "norm": "norm"}
    renamed = {}
    for key, value in projector.state_dict().items():
        module, _, leaf = key.rpartition(".")
        renamed[f"{names[module]}.{leaf}"] = value
    stock.load_state_dict(renamed)
    condition = torch.randn(3, projector.condition_dim)
    assert torch.equal(projector(condition), stock(condition))
    assert projector(condition[:, None]).shape == (3, 1, tokens, width)


def test_keys_are_the_faceid_layout() -> None:
    assert list(BodyProjector(64).state_dict()) == [
        "proj.0.weight", "proj.0.bias", "proj.2.weight", "proj.2.bias", "norm.weight", "norm.bias",
    ]  # fmt: skip


def test_default_widths() -> None:
    assert FaceProjector(8).condition_dim == 512
    assert BodyProjector(8).condition_dim == 256
