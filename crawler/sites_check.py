"""Help for whoever writes a site definition: which are shipped, and what each selector finds on a page."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, PolicyError, SiteError
from .address import is_loopback, parse_host_port
from .definition import SiteDefinition, definition_text, load_definition, parse_definition, shipped_sites
from .extract import Document, text
from .fetch import Fetcher, Limits, Page
from .frontier import Frontier
from .hosts import Hosts
from .outcome import Failure, Postponed, Rejection


@dataclass(frozen=True)
class SiteInfo:
    """One shipped definition."""

    name: str
    title: str
    start: str


@dataclass(frozen=True)
class Finding:
    """What one selector finds on a page: `found` elements, and the link or words of the first."""

    kind: str
    key: str
    selector: str
    found: int
    example: str


@dataclass(frozen=True)
class SiteCheck:
    """A definition that is valid, the page that was looked at (None: none), and what was found on it."""

    definition: SiteDefinition
    url: str | None
    findings: tuple[Finding, ...]


def list_sites() -> list[SiteInfo]:
    """Return the shipped definitions."""
    found = [load_definition(name) for name in shipped_sites()]
    return [SiteInfo(each.name, each.title, each.start) for each in found]


def show_site(site: str) -> str:
    """Return the TOML of a definition, to begin a new one from.

    Raises:
        ConfigError: there is none of this name.
    """
    return definition_text(site)


def check_site(
    site: str, page: str | None = None, contact: str | None = None, allow_private: tuple[str, ...] = ()
) -> SiteCheck:
    """Check a definition, and say what each of its selectors finds on a page.

    Args:
        site: name of a shipped definition or path of a TOML file.
        page: address of a page, or path of a saved one; None checks the definition alone.
        contact: who asks, needed for a live page.
        allow_private: HOST:PORT that may lie in a private network.

    Raises:
        ConfigError: the definition is wrong, or the file cannot be read.
        PolicyError: a live page without contact, a private address that is not allowed, robots.txt.
        SiteError: the page cannot be read.
    """
    definition = parse_definition(definition_text(site), site)
    if page is None:
        return SiteCheck(definition, None, ())
    if "://" not in page:
        try:
            document = Document(definition.start, Path(page).read_bytes())
        except OSError as error:
            raise ConfigError(f"cannot read the page {page}: {error.strerror}; give an address or a file") from error
        return SiteCheck(definition, page, tuple(findings(definition, document)))
    if contact is None and not is_loopback(page):
        raise PolicyError(f"{page} is a live page; add --contact, so that its operator can reach you")
    allowed = frozenset(parse_host_port(each) for each in allow_private)
    read = asyncio.run(_read(page, contact, allowed))
    return SiteCheck(definition, read.url, tuple(findings(definition, Document(read.url, read.body, read.charset))))


async def _read(url: str, contact: str | None, allowed: frozenset[str]) -> Page:
    frontier = Frontier(Path(":memory:"), "check", "check")
    hosts = Hosts(frontier, 1.0, 60.0, 1.0)
    try:
        async with Fetcher(hosts, contact, allowed, Limits()) as fetcher:
            hosts.fetcher = fetcher
            return await fetcher.page(url, {})
    except Rejection as why:
        raise PolicyError(f"{url} was refused: {why}") from why
    except (Failure, Postponed) as failure:
        raise SiteError(f"{url} could not be read: {failure}; try again later") from failure
    finally:
        frontier.close()


def findings(definition: SiteDefinition, document: Document) -> Iterator[Finding]:
    """Yield what every selector of a definition finds on a page, in the order in which they are tried."""
    for page in definition.pages:
        for links in page.links:
            for selector in links.selectors:
                yield _finding(document, page.kind, f"links to {links.to}", selector, links.attribute)
        for rule, key in ((page.photos, "photos"), (page.next, "next")):
            for selector in rule.selectors if rule else ():
                yield _finding(document, page.kind, key, selector, rule.attribute if rule else None)
        for words, key in ((page.identity.name, "name"), (page.identity.count, "count")) if page.identity else ():
            for selector in words.selectors if words else ():
                one = words.model_copy(update={"selectors": (selector,)}) if words else None
                found = len(document.all(selector))
                yield Finding(page.kind, key, selector, found, text(document, one) or "")
    if definition.picture:
        for selector in definition.picture.image.selectors:
            for attribute in definition.picture.image.attributes:
                yield _finding(document, "picture", "image", selector, attribute)
    for selector in definition.rights.selectors:
        yield _finding(document, "picture", "rights", selector, None)


def _finding(document: Document, kind: str, key: str, selector: str, attribute: str | None) -> Finding:
    elements = document.all(selector)
    if attribute is None:
        example = " ".join(elements[0].get_text(" ").split()) if elements else ""
        return Finding(kind, key, selector, len(elements), example[:200])
    links = [link for link in (document.link(element, attribute) for element in elements) if link]
    return Finding(kind, key, selector, len(links), links[0] if links else "")
