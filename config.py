"""Run configuration: pydantic models in, TOML on disk, unknown keys refused with the near match.

Three layers, later ones win: the model's defaults, a TOML file, `--set key=value` items. The resolved
configuration is written beside every result, so that a result says how it was made.
"""

import difflib
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from . import atomic
from .errors import ConfigError


class Config(BaseModel):
    """Base of all configurations: frozen, and a key that does not exist is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


C = TypeVar("C", bound=BaseModel)


def load_config(model: type[C], file: Path | None = None, overrides: Sequence[str] = ()) -> C:
    """Build `model` from its defaults, then `file` (TOML), then `overrides` (`key=value`, dotted keys, TOML values).

    Raises:
        ConfigError: the file is missing or no TOML, a key is unknown (the near match is named), a value is wrong.
    """
    values: dict[str, Any] = {}
    source = "the command line"
    if file is not None:
        source = str(file)
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read the configuration {file}: {error.strerror}; check the path") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is not valid TOML: {error}") from error
    for item in overrides:
        _set(values, item)
    return validate(model, values, source)


def validate(model: type[C], values: dict[str, Any], source: str) -> C:
    """Build `model` from `values`, with messages that point at the key.

    Raises:
        ConfigError: see `load_config`; the message begins with `source`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_explain(model, dict(problem)) for problem in error.errors()]
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from None


def write_config(path: Path, config: BaseModel) -> None:
    """Write the resolved configuration as TOML, whole or not at all (keys whose value is None are left out)."""
    atomic.write_text(path, tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)))


def near_match(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest known word, or the empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _set(values: dict[str, Any], item: str) -> None:
    key, equals, text = item.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {item}: write it as key=value, for example --set steps=200")
    *parents, leaf = key.strip().split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {item}: '{parent}' is a value, not a table")
    values[leaf] = _toml_value(text.strip())


def _toml_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word is a string: --set device=cpu


def _explain(model: type[BaseModel], problem: dict[str, Any]) -> str:
    location = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, problem["loc"][:-1])
        return f"unknown key '{location}'{near_match(str(problem['loc'][-1]), known)} (known: {', '.join(known)})"
    if problem["type"] == "missing":
        return f"the key '{location}' is missing"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    # What contradicts itself over several keys is told by its own message.
    return f"'{location}' = {problem['input']!r}: {message}" if problem["loc"] else message


def _fields_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int) or current is None:
            continue
        field = current.model_fields.get(part)
        current = _model_in(field.annotation) if field else None
    return sorted(current.model_fields) if current else []


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
