"""From the bytes of a page to what the site definition names: links, identity, thumbnails, image, rights.

Pure functions. A page on which no selector of its kind finds anything raises a Failure with the reason
`layout`: the site changed, or it is another site. It is never read as an empty gallery.
"""

import codecs
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bs4 import BeautifulSoup, Tag
from bs4.dammit import EncodingDetector

from .address import canonical
from .definition import Links, Next, Photos, Picture, Rights, Text
from .outcome import LAYOUT, Failure
from .site import Site

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# What browsers read these names as (WHATWG Encoding, the table of labels).
_MEANT = {"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254"}
# They fail on what is no text of theirs whatever errors are asked for, or give halves of characters.
_NOT_OF_PAGES = frozenset({"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-7"})


@dataclass(frozen=True)
class PageLink:
    """A link to a page: its kind, its identity where it is a gallery, and its number where it has one."""

    kind: str
    url: str
    slug: str | None = None
    number: int | None = None


@dataclass(frozen=True)
class PhotoLink:
    """A thumbnail: where it leads, and the pixel size (width, height) stated beside it."""

    url: str
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Gallery:
    """A person's page: display name, announced number of photos (None: not announced), thumbnails, further pages."""

    name: str | None
    announced: int | None
    photos: tuple[PhotoLink, ...]
    further: tuple[PageLink, ...]


@dataclass(frozen=True)
class PictureFound:
    """A picture page: the address of the image and what is said of the rights."""

    image: str
    rights: str


class Document:
    """A parsed page.

    Args:
        url: the address it came from after redirects; relative links start here or at its `base` element.
        body: the bytes.
        charset: encoding named by the Content-Type header.
    """

    def __init__(self, url: str, body: bytes, charset: str | None = None) -> None:
        self.url = url
        self.soup = BeautifulSoup(decode(body, charset), "lxml")
        base = self.soup.find("base", href=True)
        self.base = (canonical(url, str(base["href"])) if isinstance(base, Tag) else None) or url

    def all(self, selector: str) -> list[Tag]:
        """Return the elements that the selector finds, in document order."""
        return self.soup.select(selector)

    def link(self, element: Tag, attribute: str) -> str | None:
        """Return the absolute address in an attribute; None where it is missing or not http(s)."""
        value = element.get(attribute)
        return canonical(self.base, value) if isinstance(value, str) and value.strip() else None


def decode(body: bytes, charset: str | None = None) -> str:
    """Return the text of a page: byte order mark, else header, else meta tag, else UTF-8, else windows-1252."""
    for mark, marked in _BOMS:
        if body.startswith(mark):
            return body[len(mark) :].decode(marked, "replace")
    for name in (charset, EncodingDetector.find_declared_encoding(body, is_html=True)):
        codec = _codec(name)
        if codec:
            return body.decode(codec, "replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body.decode("cp1252", "replace")


def _codec(name: str | None) -> str | None:
    try:
        found = codecs.lookup((name or "").strip().strip("\"'"))
    except (LookupError, ValueError):
        return None
    # "hex" and "zip" are codecs of Python too, but not encodings of text; others are none of pages.
    if not getattr(found, "_is_text_encoding", True) or found.name in _NOT_OF_PAGES:
        return None
    return _MEANT.get(found.name, found.name)


def listing(document: Document, site: Site, kind: str) -> tuple[PageLink, ...]:
    """Return the links of a listing page, its further pages last.

    Raises:
        Failure: no selector of the definition found a link (`layout`).
    """
    page = site.page(kind)
    for rule in page.links:
        found = _page_links(document, site, rule)
        if found:
            return found + further(document, site, kind, page.next, None)
    raise _unknown_layout(document, kind, "links", [s for rule in page.links for s in rule.selectors])


def _page_links(document: Document, site: Site, rule: Links) -> tuple[PageLink, ...]:
    needs_slug = site.page(rule.to).identity is not None
    for selector in rule.selectors:
        found: dict[str, PageLink] = {}
        for element in document.all(selector):
            url = _on_site(document, site, element, rule.attribute)
            slug = site.slug(rule.to, url) if url else None
            if url and url != document.url and (slug or not needs_slug):
                found.setdefault(url, PageLink(rule.to, url, slug))
        if found:
            return tuple(found.values())
    return ()


def further(document: Document, site: Site, kind: str, rule: Next | None, slug: str | None) -> tuple[PageLink, ...]:
    """Return the links to further pages of the same list or gallery, without this page itself."""
    found: dict[str, PageLink] = {}
    for selector in rule.selectors if rule else ():
        for element in document.all(selector):
            url = _on_site(document, site, element, rule.attribute if rule else "href")
            if url and url != document.url:
                found.setdefault(url, PageLink(kind, url, slug, _number(rule, url)))
        if found:
            break
    return tuple(found.values())


def _number(rule: Next | None, url: str) -> int | None:
    found = re.search(rule.number, url) if rule and rule.number else None
    return int(found[1]) if found and found[1].isdecimal() and len(found[1]) < 8 else None


def gallery(document: Document, site: Site, kind: str, slug: str) -> Gallery:
    """Return what a gallery page shows; no `photos` where no selector found one (see `require_photos`)."""
    page = site.page(kind)
    if page.identity is None or page.photos is None:
        raise ValueError(f"pages of the kind {kind} are no galleries")
    count = text(document, page.identity.count)
    return Gallery(
        text(document, page.identity.name),
        int(count) if count and count.isdecimal() and len(count) < 10 else None,
        _photos(document, site, page.photos),
        further(document, site, kind, page.next, slug),
    )


def require_photos(document: Document, site: Site, kind: str, found: Gallery) -> None:
    """Check that a gallery page shows photos.

    Raises:
        Failure: no selector of the definition found a thumbnail (`layout`).
    """
    photos = site.page(kind).photos
    if photos and not found.photos:
        raise _unknown_layout(document, kind, "photos", photos.selectors)


def _photos(document: Document, site: Site, rule: Photos) -> tuple[PhotoLink, ...]:
    for selector in rule.selectors:
        found: dict[str, PhotoLink] = {}
        for element in document.all(selector):
            url = document.link(element, rule.attribute)
            url = site.localise(url) if url else None
            # A picture page is a page, and pages stay on the site; images may lie on any public host.
            if url and (rule.to == "image" or site.owns(url)):
                found.setdefault(url, PhotoLink(url, _stated_size(element, rule.size)))
        if found:
            return tuple(found.values())
    return ()


def _stated_size(element: Tag, pattern: str | None) -> tuple[int, int] | None:
    found = re.search(pattern, str(element)) if pattern else None
    if not found:
        return None
    width, height = (int(number) for number in found.groups()[:2])
    return width, height


def picture(document: Document, site: Site, rule: Picture, rights: Rights) -> PictureFound:
    """Return the image of a picture page.

    Raises:
        Failure: no selector of the definition found an image (`layout`).
    """
    for selector in rule.image.selectors:
        for element in document.all(selector):
            for attribute in rule.image.attributes:
                url = document.link(element, attribute)
                if url:
                    return PictureFound(site.localise(url), rights_text(document, rights))
    raise _unknown_layout(document, "picture", "image", rule.image.selectors)


def rights_text(document: Document, rights: Rights) -> str:
    """Return what the page says of the rights, else the text of the definition."""
    words = _words(document, rights.selectors, None)
    return words[:1000] if words else rights.text


def text(document: Document, rule: Text | None) -> str | None:
    """Return the words that a text rule finds; None where nothing fits."""
    words = _words(document, rule.selectors, rule.attribute) if rule else None
    if words and rule and rule.pattern:
        found = re.search(rule.pattern, words)
        return found[1] if found else None
    return words[:1000] if words else None


def _words(document: Document, selectors: Sequence[str], attribute: str | None) -> str | None:
    for selector in selectors:
        for element in document.all(selector):
            value = element.get(attribute) if attribute else element.get_text(" ")
            words = " ".join(str(value or "").split())
            if words:
                return words
    return None


def _on_site(document: Document, site: Site, element: Tag, attribute: str) -> str | None:
    url = document.link(element, attribute)
    url = site.localise(url) if url else None
    return url if url and site.owns(url) else None


def _unknown_layout(document: Document, kind: str, what: str, selectors: Iterable[str]) -> Failure:
    tried = ", ".join(selectors)
    return Failure(
        LAYOUT, f"{document.url}: no selector for '{what}' of '{kind}' pages found anything ({tried})", retry=False
    )
