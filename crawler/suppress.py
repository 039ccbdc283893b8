"""suppress.txt: what must not be crawled, whatever the site says.

One entry a line: the slug of an identity, an address (of an image or its page), or the SHA-256 of a photo.
Empty lines and lines that begin with # are skipped.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from .address import canonical

NAME = "suppress.txt"


@dataclass(frozen=True)
class Suppression:
    """The entries of suppress.txt by their kind."""

    slugs: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    hashes: frozenset[str] = frozenset()

    @property
    def entries(self) -> frozenset[str]:
        """All entries."""
        return self.slugs | self.addresses | self.hashes

    def entry(self, *addresses: str | None, slug: str | None = None) -> str | None:
        """Return the entry that names the identity or one of the addresses; None where none does."""
        if slug in self.slugs:
            return slug
        return next((address for address in addresses if address in self.addresses), None)


def read_suppression(folder: Path) -> Suppression:
    """Return the entries of `suppress.txt` in `folder`, none where the file is missing.

    Raises:
        ConfigError: the file cannot be read, or an address in it is malformed.
    """
    file = folder / NAME
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return Suppression()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}; it must be a text file in UTF-8") from error
    found: dict[str, set[str]] = {"slug": set(), "address": set(), "hash": set()}
    for number, line in enumerate(lines, 1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            kind, value = _entry(entry, f"{file}, line {number}")
            found[kind].add(value)
    return Suppression(frozenset(found["slug"]), frozenset(found["address"]), frozenset(found["hash"]))


def _entry(text: str, where: str) -> tuple[str, str]:
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return "hash", text.lower()
    if "://" not in text:
        return "slug", text
    address = canonical("", text)
    if address is None:
        raise ConfigError(f"{where}: {text} is not an http or https address; correct it, or remove the line")
    return "address", address
