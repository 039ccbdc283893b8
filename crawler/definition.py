"""What a gallery site looks like, as data: one TOML file a site, no Python.

A site is a tree of page kinds. A listing page (index, letter) has `links` to further pages; a gallery page
(person) has an `identity` and `photos`; a thumbnail leads to a picture page, which has the image, or to the
image itself. Every selector list is tried in order and the first that finds something counts.
"""

import re
import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Literal

import soupsieve
from pydantic import AfterValidator, Field, model_validator

from ..config import Config, near_match, validate
from ..errors import ConfigError
from .address import canonical


def _selector(text: str) -> str:
    try:
        soupsieve.compile(text)
    except soupsieve.SelectorSyntaxError as error:
        raise ValueError(f"not a CSS selector: {str(error).splitlines()[0]}") from None
    return text


def _pattern(text: str) -> str:
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if groups != 1:
        raise ValueError(f"needs exactly one group in parentheses, it has {groups}")
    return text


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return text


def _host(text: str) -> str:
    address = canonical("", f"http://{text}/")
    if address is None or address != f"http://{text}/":
        raise ValueError("a host is written in lower case and without scheme or path, for example www.example.org")
    return text


Selectors = Annotated[tuple[Annotated[str, AfterValidator(_selector)], ...], Field(min_length=1)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Regex = Annotated[str, AfterValidator(_regex)]


class Text(Config):
    """Words on a page: those of the first element found, or one of its attributes; `pattern` keeps its group."""

    selectors: Selectors
    attribute: str | None = None
    pattern: Pattern | None = None


class Links(Config):
    """Links from a listing page to pages of the kind `to`."""

    to: str
    selectors: Selectors
    attribute: str = "href"


class Next(Config):
    """Links to further pages of the same list; `number` finds the page number in the address, for the order."""

    selectors: Selectors
    attribute: str = "href"
    number: Pattern | None = None


class Identity(Config):
    """Who a gallery shows: `slug` is found in the address, `name` and the announced number on the page."""

    slug: Pattern
    name: Text | None = None
    count: Text | None = None


class Photos(Config):
    """Thumbnails of a gallery; `size` finds a stated pixel size as in '1200x1800' near a thumbnail."""

    selectors: Selectors
    attribute: str = "href"
    to: Literal["picture", "image"] = "picture"
    size: Annotated[str, AfterValidator(_regex)] | None = None


class Image(Config):
    """The image of a picture page; the first attribute present counts."""

    selectors: Selectors
    attributes: Annotated[tuple[str, ...], Field(min_length=1)] = ("src",)


class Picture(Config):
    """A page that shows one photo."""

    image: Image


class Rights(Config):
    """What is known of the rights: words of the page where `selectors` find some, else `text`."""

    text: str = ""
    selectors: tuple[Annotated[str, AfterValidator(_selector)], ...] = ()


class PageKind(Config):
    """One kind of page: a listing (`links`) or a gallery (`identity` and `photos`)."""

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    address: Regex | None = None
    links: tuple[Links, ...] = ()
    next: Next | None = None
    identity: Identity | None = None
    photos: Photos | None = None

    @model_validator(mode="after")
    def _one_role(self) -> "PageKind":
        if bool(self.links) == (self.photos is not None):
            raise ValueError(f"the page kind '{self.kind}' needs either 'links' (a listing) or 'photos' (a gallery)")
        if (self.photos is None) != (self.identity is None):
            raise ValueError(f"the page kind '{self.kind}' needs 'identity' and 'photos' together")
        return self


class SiteDefinition(Config):
    """A gallery site; the first entry of `pages` is the kind of the start page.

    A `family` of sites has no host of its own: `start` gives the path, the user the host.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    title: str
    start: str
    family: bool = False
    hosts: Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], Field(min_length=1)]
    rights: Rights = Rights()
    pages: Annotated[tuple[PageKind, ...], Field(min_length=1)]
    picture: Picture | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "SiteDefinition":
        kinds = [page.kind for page in self.pages]
        if len(set(kinds)) != len(kinds):
            raise ValueError("two page kinds have the same name")
        for page in self.pages:
            for link in page.links:
                if link.to not in kinds:
                    raise ValueError(f"pages '{page.kind}' link to the unknown kind '{link.to}'"
                                     f"{near_match(link.to, kinds)}")  # fmt: skip
            if page.photos and page.photos.to == "picture" and self.picture is None:
                raise ValueError(f"photos of '{page.kind}' lead to picture pages, but [picture] is missing")
        if not any(page.photos for page in self.pages):
            raise ValueError("no page kind has 'photos'")
        if canonical("", self.start) is None:
            raise ValueError("'start' must be an http or https address")
        return self

    def page(self, kind: str) -> PageKind:
        """Return the page kind of this name."""
        return next(page for page in self.pages if page.kind == kind)


def load_definition(site: str) -> SiteDefinition:
    """Return a shipped definition by its name, or the one in a TOML file by its path.

    Raises:
        ConfigError: no such site or file, or the definition is wrong; the message points at the key.
    """
    return parse_definition(definition_text(site), site)


def definition_text(site: str) -> str:
    """Return the TOML of a shipped definition or of a file.

    Raises:
        ConfigError: there is no such definition, or the file cannot be read.
    """
    if not (site.endswith(".toml") or "/" in site):
        known = shipped_sites()
        if site not in known:
            raise ConfigError(
                f"no site definition is called '{site}'{near_match(site, known)} (shipped: {', '.join(known)}; "
                "a file is given by its path, NAME.toml)"
            )
        return (_folder() / f"{site}.toml").read_text(encoding="utf-8")
    try:
        return Path(site).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the site definition {site}: {error}; check the path") from error


def parse_definition(text: str, source: str) -> SiteDefinition:
    """Return the definition written in `text`; `source` begins the messages.

    Raises:
        ConfigError: no TOML, an unknown key (the near match is named) or a wrong value.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not valid TOML: {error}") from error
    return validate(SiteDefinition, values, source)


def shipped_sites() -> list[str]:
    """Return the names of the definitions that come with bolid."""
    return sorted(file.name.removesuffix(".toml") for file in _folder().iterdir() if file.name.endswith(".toml"))


def _folder() -> Traversable:
    return resources.files(__package__) / "sites"
