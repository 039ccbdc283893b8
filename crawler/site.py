"""A site definition bound to the host that is really crawled."""

import re
from dataclasses import dataclass

from yarl import URL

from ..errors import ConfigError
from .address import canonical, origin
from .definition import PageKind, SiteDefinition


@dataclass(frozen=True)
class Site:
    """A definition, its start address, and the hosts its pages may lie on.

    Where the user gave a start address, its scheme, host and port replace those of the definition, in links too,
    so that a mirror or a test server is crawled with the same definition.
    """

    definition: SiteDefinition
    start: str
    kind: str
    replaced: bool

    @classmethod
    def bind(cls, definition: SiteDefinition, start_url: str | None = None) -> "Site":
        """Bind `definition` to `start_url`; without a path the start path of the definition is kept.

        Raises:
            ConfigError: `start_url` is not an http or https address, or is missing for a family of sites.
        """
        kind = definition.pages[0].kind
        if start_url is None and definition.family:
            raise ConfigError(
                f"the definition '{definition.name}' is for a family of sites; "
                f"add the address of one: bolid crawl START_URL --site {definition.name}"
            )
        if start_url is None:
            return cls(definition, definition.start, kind, replaced=False)
        given = canonical("", start_url)
        if given is None:
            raise ConfigError(f"START_URL {start_url}: write an http or https address, for example {definition.start}")
        if URL(given).path == "/" and not URL(given).query_string:
            return cls(definition, origin(given) + URL(definition.start).path_qs, kind, replaced=True)
        return cls(definition, given, _kind_of(definition, given), replaced=True)

    @property
    def source(self) -> str:
        """Name of this crawl in the frontier: the definition, and the host where it was replaced."""
        return f"{self.definition.name}@{origin(self.start)}" if self.replaced else self.definition.name

    def localise(self, url: str) -> str:
        """Return `url` with the crawled host in place of a host of the definition."""
        if not self.replaced or URL(url).host not in self.definition.hosts:
            return url
        return origin(self.start) + URL(url).raw_path_qs

    def owns(self, url: str) -> bool:
        """Say whether a page lies on the site."""
        if self.replaced:
            return origin(url) == origin(self.start)
        return URL(url).host in self.definition.hosts

    def page(self, kind: str) -> PageKind:
        """Return the page kind of this name."""
        return self.definition.page(kind)

    def slug(self, kind: str, url: str) -> str | None:
        """Return the slug of the identity that a gallery address belongs to; None where the pattern does not fit."""
        identity = self.page(kind).identity
        if identity is None:
            return None
        found = re.search(identity.slug, URL(url).path)
        return clean_slug(found[1] or "") if found else None


def clean_slug(text: str) -> str | None:
    """Return an identity's name without blanks and control characters, at most 200 long; None if nothing is left."""
    return re.sub(r"[\x00-\x20\x7f]+", "_", text.strip())[:200] or None


def _kind_of(definition: SiteDefinition, url: str) -> str:
    for page in definition.pages:
        if page.address and re.search(page.address, URL(url).path):
            return page.kind
    return definition.pages[0].kind
