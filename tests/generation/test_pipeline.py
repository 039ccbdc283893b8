"""`generate`: whose body, which lambdas, which seed, and what is written down about it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bolid.errors import DataError, ModelError, UsageError
from bolid.generation.conditions import Person, body_of, prior_bodies
from bolid.generation.config import GenerateConfig
from bolid.generation.pipeline import generate, slug
from bolid.generation.provenance import read_provenance
from bolid.models.body_encoder import BodyEncoder
from bolid.models.identity_bank import IdentityBank
from PIL import Image

# diffusers' Euler scheduler hands a tensor to np.array, which numpy 2.4 announces to change.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NOBODY = Person()
PROMPT = "A person on a chair, 50 mm!"


def config(**changes: Any) -> GenerateConfig:
    return GenerateConfig(**{"height": 64, "width": 64, "steps": 2, **changes})


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def made(world: Any, out: Path, person: Person = NOBODY, **changes: Any) -> np.ndarray:
    (path,) = generate(PROMPT, out, base="random-tiny", adapter=world.adapter, person=person, config=config(**changes))
    return pixels(path)


def test_every_source_of_a_body_gives_its_own_picture(world: Any, tmp_path: Path) -> None:
    sources = [
        Person(),
        Person(run=world.body, identity="person_001"),
        Person(run=world.body, identity="2"),
        Person(run=world.body, photos=(world.photo,)),
    ]
    pictures = [made(world, tmp_path / str(index), person) for index, person in enumerate(sources)]
    for index, first in enumerate(pictures):
        assert all(not np.array_equal(first, second) for second in pictures[index + 1 :])


def test_a_picture_depends_on_its_seed_alone(world: Any, tmp_path: Path) -> None:
    def run(out: str, **changes: Any) -> list[Path]:
        return generate(PROMPT, tmp_path / out, base="random-tiny", adapter=world.adapter, config=config(**changes))

    three, last = run("a", seed=5, count=3), run("b", seed=7, count=1)
    assert three[2].read_bytes() == last[0].read_bytes()
    assert three[2].name == last[0].name
    assert len({path.read_bytes() for path in three}) == 3


@pytest.mark.parametrize("guidance", [0.0, 3.0])
def test_lambda_zero_is_the_base(world: Any, tmp_path: Path, guidance: float) -> None:
    (base,) = generate(PROMPT, tmp_path / "base", base="random-tiny", config=config(guidance=guidance))
    off = made(world, tmp_path / "off", guidance=guidance, lambda_face=0, lambda_body=0)
    on = made(world, tmp_path / "on", guidance=guidance)
    assert np.array_equal(off, pixels(base))
    assert not np.array_equal(on, off)


def test_a_face_embedding_acts(world: Any, tmp_path: Path) -> None:
    face = tmp_path / "face.npy"
    np.save(face, np.random.default_rng(0).normal(size=512))
    assert not np.array_equal(made(world, tmp_path, Person(face=face)), made(world, tmp_path))


def test_the_record_says_how_and_never_who(world: Any, tmp_path: Path) -> None:
    person = Person(run=world.body, identity="person_001")
    (path,) = generate(
        PROMPT,
        tmp_path,
        base="random-tiny",
        adapter=world.adapter,
        person=person,
        config=config(seed=3, lambda_body=0.5),
    )
    beside = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert read_provenance(path) == beside
    assert beside["prompt"] == PROMPT
    assert (beside["seed"], beside["body"], beside["face"], beside["lambda_body"]) == (3, "bank", "none", 0.5)
    assert beside["digital_source_type"].endswith("/trainedAlgorithmicMedia")
    assert beside["tool"].startswith("bolid ")
    assert all(len(sha256) == 64 for sha256 in beside["adapter"].values())
    assert set(beside["adapter"]) == {"face", "body"}
    assert b"person_001" not in path.read_bytes() + path.with_suffix(".json").read_bytes()


def test_other_settings_never_overwrite_a_picture(world: Any, tmp_path: Path) -> None:
    made(world, tmp_path)
    made(world, tmp_path, lambda_body=0.5)
    made(world, tmp_path, Person(run=world.body, photos=(world.photo,)))
    for someone in ("person_001", "person_002"):
        made(world, tmp_path, Person(run=world.body, identity=someone))
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.glob("*.json"))) == 5


def test_bodies_come_from_where_they_should(world: Any) -> None:
    bank, encoder = IdentityBank.load(world.body), BodyEncoder.load(world.body)
    width = encoder.config.latent
    stored = body_of(Person(run=world.body, identity="person_002"), [0, 1], width)
    assert torch.equal(stored, bank.mu[2].expand(2, -1))
    one = body_of(Person(run=world.body, photos=(world.photo,)), [0], width)
    two = body_of(Person(run=world.body, photos=(world.photo, world.photo)), [0], width)
    assert one.shape == (1, width)
    assert two.abs().sum() > one.abs().sum(), "a second agreeing view makes the posterior surer"
    assert torch.equal(body_of(Person(), [4], width), prior_bodies([4], width))
    assert abs(prior_bodies(range(500), width).std() - 1) < 0.05


def test_refusals_say_what_to_do(world: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not both"):
        Person(run=world.body, identity="person_001", photos=(world.photo,))
    with pytest.raises(UsageError, match="--body RUN"):
        Person(identity="person_001")
    with pytest.raises(UsageError, match="--run RUN"):
        generate(PROMPT, tmp_path, base="random-tiny", person=Person(run=world.body, identity="person_001"))
    with pytest.raises(DataError, match="person_001"):
        made(world, tmp_path, Person(run=world.body, identity="person_01"))
    with pytest.raises(DataError, match="cannot be read"):
        made(world, tmp_path, Person(run=world.body, photos=(tmp_path / "none.jpg",)))
    np.save(tmp_path / "short.npy", np.zeros(3))
    with pytest.raises(DataError, match="512"):
        made(world, tmp_path, Person(face=tmp_path / "short.npy"))
    assert not list(tmp_path.glob("*.png"))


def test_another_encoder_than_the_adapters_is_refused(world: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    BodyEncoder(BodyEncoder.load(world.body).config).save(other)
    with pytest.raises(ModelError, match="not the body encoder"):
        made(world, tmp_path, Person(run=other, photos=(world.photo,)))


def test_slugs() -> None:
    assert slug(PROMPT) == "a-person-on-a-chair-50-mm"
    assert slug("漢字") == "picture"
    assert len(slug("word " * 100)) <= 40


@pytest.mark.parametrize(
    "module",
    ["generation", "generation.config", "evaluation", "evaluation.config", "training.adapter_config"],
)
def test_light_modules_do_not_import_torch(module: str) -> None:
    code = f"import sys, bolid.{module}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
