from pathlib import Path

import pytest
import torch
from bolid.errors import DataError, ModelError
from bolid.models.identity_bank import IdentityBank


def bank() -> IdentityBank:
    return IdentityBank([3, 7], ["ann", "bob"], [20, 21], torch.randn(2, 4), torch.zeros(2, 4))


def test_a_bank_comes_back_and_is_asked_by_name_or_number(tmp_path: Path) -> None:
    saved = bank()
    saved.save(tmp_path)
    loaded = IdentityBank.load(tmp_path)
    assert (loaded.identities, loaded.slugs, loaded.views) == ([3, 7], ["ann", "bob"], [20, 21])
    assert torch.equal(loaded.latent("bob"), saved.mu[1:])
    assert torch.equal(loaded.latent(7), loaded.latent("7"))
    assert loaded.latent("ann").shape == (1, 4)


def test_an_unknown_identity_is_refused_with_the_near_match() -> None:
    with pytest.raises(DataError, match=r"'bobb'.*bob"):
        bank().latent("bobb")


def test_a_missing_or_damaged_bank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="bolid train vae"):
        IdentityBank.load(tmp_path)
    bank().save(tmp_path)
    (tmp_path / "identities.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="damaged"):
        IdentityBank.load(tmp_path)
    IdentityBank([1], ["x"], [1], torch.zeros(1, 4), torch.zeros(1, 4)).save(tmp_path / "other")
    bank().save(tmp_path)
    (tmp_path / "other/identities.parquet").rename(tmp_path / "identities.parquet")
    with pytest.raises(ModelError, match="belong together"):
        IdentityBank.load(tmp_path)
