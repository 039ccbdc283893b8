"""Face condition and drop-out."""

import pytest
import torch
from bolid.config import load_config
from bolid.errors import ConfigError
from bolid.models.sdxl import Text
from bolid.training.adapter_conditions import Conditions, drop, dropped, face_of
from bolid.training.adapter_config import AdapterConfig, DropOut


def conditions(n: int) -> Conditions:
    torch.manual_seed(0)
    return Conditions(Text(torch.randn(n, 5, 8), torch.randn(n, 6)), torch.randn(n, 512), torch.randn(n, 16))


def test_face_is_the_normalised_mean_of_the_faces_that_are_there() -> None:
    faces = torch.zeros(3, 4, 512)
    faces[0, 0, 0] = faces[0, 1, 1] = 1
    faces[1, 2, 5] = 3
    face = face_of(faces)
    assert face[0, :2].tolist() == pytest.approx([0.5**0.5] * 2)
    assert face[1, 5] == 1
    assert not face[2].any()


def test_the_four_cases_exclude_each_other() -> None:
    lost = dropped(torch.tensor([0.0, 0.049, 0.05, 0.12, 0.16, 0.2, 0.99]), DropOut())
    assert lost["text"].tolist() == [True, True, False, False, True, False, False]
    assert lost["face"].tolist() == [False, False, True, False, True, False, False]
    assert lost["body"].tolist() == [False, False, False, True, True, False, False]


def test_rates_hold_over_many_samples() -> None:
    lost = dropped(torch.rand(100_000, generator=torch.Generator().manual_seed(0)), DropOut(text=0.1, all=0.2))
    shares = {name: mask.float().mean().item() for name, mask in lost.items()}
    assert shares == pytest.approx({"text": 0.3, "face": 0.25, "body": 0.25}, abs=0.005)


def test_a_dropped_condition_is_what_inference_passes_for_none() -> None:
    given, no_text = conditions(4), Text(torch.zeros(1, 5, 8), torch.zeros(1, 6))
    lost = {name: torch.tensor([i == k or k == 3 for k in range(4)]) for i, name in enumerate(("text", "face", "body"))}
    kept = drop(given, lost, no_text)
    assert not kept.text.states[[0, 3]].any()
    assert not kept.text.pooled[[0, 3]].any()
    assert not kept.face[[1, 3]].any()
    assert not kept.body[[2, 3]].any()
    assert torch.equal(kept.text.states[[1, 2]], given.text.states[[1, 2]])
    assert torch.equal(kept.face[[0, 2]], given.face[[0, 2]])
    assert torch.equal(kept.body[[0, 1]], given.body[[0, 1]])


def test_shares_beyond_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 1"):
        load_config(AdapterConfig, overrides=["drop.text=0.9", "drop.face=0.2"])
