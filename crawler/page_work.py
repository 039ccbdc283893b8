"""What happens to one listing or gallery page, from the claim to the state that ends it."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from .address import origin
from .extract import Document, Gallery, gallery, listing, require_photos
from .fetch import Fetcher, Page
from .frontier import Frontier
from .optout import is_about_ai, page_refusal
from .outcome import OPT_OUT, TOO_FEW, Rejection
from .rows import Bounds, PageRow
from .site import Site


class PageWork:
    """Reads pages as the site definition says and adds what they link to.

    Args:
        site: the definition bound to its host.
        frontier: where outcomes are noted.
        fetcher: the network.
        bounds: thresholds of the crawl.
        wake: is told hosts that have new work.
    """

    def __init__(
        self, site: Site, frontier: Frontier, fetcher: Fetcher, bounds: Bounds, wake: Callable[[str], None]
    ) -> None:
        self._site, self._frontier, self._fetcher, self._bounds, self._wake = site, frontier, fetcher, bounds, wake

    async def run(self, row: PageRow) -> None:
        """Bring one claimed page to its end.

        Raises:
            Failure, Postponed: the caller decides when to try again.
        """
        try:
            page = await self._fetcher.page(row.url, _conditions(row), stay=self._site.owns)
            if page.status == 304:
                self._frontier.page_unchanged(row)
            elif row.slug is None:
                self._read_listing(row, page)
            else:
                self._read_gallery(row, page, row.slug)
        except Rejection as why:
            self._frontier.page_rejected(row, why)

    def _read_listing(self, row: PageRow, page: Page) -> None:
        links = listing(Document(page.url, page.body, page.charset), self._site, row.kind)
        self._frontier.listing_read(row, links, *_validators(page))
        self._wake_all({origin(link.url) for link in links})

    def _read_gallery(self, row: PageRow, page: Page, slug: str) -> None:
        document = Document(page.url, page.body, page.charset)
        refusal = page_refusal(page.signals, document, datetime.now(UTC))
        if refusal and is_about_ai(refusal):
            raise Rejection(OPT_OUT, detail=refusal)
        found = gallery(document, self._site, row.kind, slug)
        self._frontier.describe(row, found)
        if not row.decided:
            require_enough(found, self._bounds.min_photos)
        require_photos(document, self._site, row.kind, found)
        rule = self._site.page(row.kind).photos
        rights = self._site.definition.rights.text if rule and rule.to == "image" else None
        self._wake_all(self._frontier.gallery_read(row, found, self._bounds, rights, *_validators(page)))

    def _wake_all(self, hosts: Iterable[str]) -> None:
        for host in hosts:
            self._wake(host)


def require_enough(found: Gallery, min_photos: int) -> None:
    """Refuse an identity that announces fewer than `min_photos`; without an announcement a single page is counted.

    Raises:
        Rejection: `too_few_photos` (value: announced number).
    """
    counted = len(found.photos) if found.photos and not found.further else None
    announced = found.announced if found.announced is not None else counted
    if announced is not None and announced < min_photos:
        raise Rejection(TOO_FEW, announced, min_photos)


def _conditions(row: PageRow) -> Mapping[str, str]:
    conditions = {"If-None-Match": row.etag, "If-Modified-Since": row.modified}
    return {name: value for name, value in conditions.items() if value is not None}


def _validators(page: Page) -> tuple[str | None, str | None]:
    return page.headers.get("ETag"), page.headers.get("Last-Modified")
