from pathlib import Path

import pytest
from bolid.config import Config, load_config, write_config
from bolid.errors import ConfigError
from pydantic import Field, model_validator


class Inner(Config):
    steps: int = Field(10, ge=1)
    name: str = "a"


class Outer(Config):
    rate: float = 0.5
    note: str | None = None
    loop: Inner = Inner()


def test_later_layers_win(tmp_path: Path):
    file = tmp_path / "c.toml"
    file.write_text('rate = 1.5\n[loop]\nsteps = 20\nname = "file"\n')
    config = load_config(Outer, file, ["loop.steps=30", "note=bare word"])
    assert config == Outer(rate=1.5, note="bare word", loop=Inner(steps=30, name="file"))


def test_the_written_file_reads_back_equal(tmp_path: Path):
    config = Outer(rate=0.1, loop=Inner(steps=3))
    write_config(tmp_path / "c.toml", config)
    assert load_config(Outer, tmp_path / "c.toml") == config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rat=1"], "unknown key 'rat'; did you mean 'rate'?"),
        (["loop.step=1"], "unknown key 'loop.step'; did you mean 'steps'?"),
        (["loop.steps=0"], "'loop.steps' = 0"),
        (["loop.steps=many"], "'loop.steps' = 'many'"),
        (["loop"], "write it as key=value"),
        (["rate=1", "rate.x=2"], "is a value, not a table"),
    ],
)
def test_messages_point_at_the_key(overrides: list[str], message: str):
    with pytest.raises(ConfigError) as caught:
        load_config(Outer, None, overrides)
    assert message in str(caught.value)


class Pair(Config):
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _in_order(self) -> "Pair":
        if self.low > self.high:
            raise ValueError(f"low = {self.low} must not be above high = {self.high}")
        return self


def test_a_contradiction_of_several_keys_is_one_plain_line():
    with pytest.raises(ConfigError) as caught:
        load_config(Pair, None, ["low=2"])
    assert str(caught.value) == "the command line: low = 2 must not be above high = 1"


def test_files_that_cannot_be_read_are_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load_config(Outer, tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("rate = = 1")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(Outer, tmp_path / "bad.toml")
