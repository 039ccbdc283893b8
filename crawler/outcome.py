"""The two ways in which an address does not become a stored photo.

A Rejection is final: the address was looked at and refused (reason, value, threshold). A Failure may pass:
the address is asked again, at first in the same run with a growing pause, then in the next run.
Both end as the state of a row of the frontier, never as a message that scrolls away.
"""

LAYOUT = "layout"
TOO_SMALL = "too_small"
TOO_FEW = "too_few_photos"
TOO_LARGE = "too_large"
MAX_PHOTOS = "max_photos"
SAME_ADDRESS = "same_address"
BAD_ADDRESS = "bad_address"
SUPPRESSED = "suppressed"
ROBOTS = "robots"
OPT_OUT = "opt_out"
TOO_MANY_PAGES = "too_many_pages"
PRIVATE = "private_address"
NO_CONTACT = "no_contact"
OFF_SITE = "off_site"

DECIDED_HERE = frozenset(
    {
        TOO_SMALL,
        TOO_FEW,
        TOO_LARGE,
        MAX_PHOTOS,
        TOO_MANY_PAGES,
        SAME_ADDRESS,
        BAD_ADDRESS,
        SUPPRESSED,
        "too_many_pixels",
    }
)
"""Rejections that no server can take back: they follow from the options, the list, or the bytes."""


class Rejection(Exception):
    """The address is refused for good.

    Args:
        reason: a word of the table in docs/crawl.md ("too_small", "robots").
        value: what was measured, where the reason has a measure.
        threshold: the limit that the value missed.
        detail: words for people.

    `received` and `saved` are the bytes of a photo that were read and that were not asked for.
    """

    received = 0
    saved = 0

    def __init__(
        self, reason: str, value: float | None = None, threshold: float | None = None, detail: str = ""
    ) -> None:
        super().__init__(f"{reason} {detail}".strip())
        self.reason, self.value, self.threshold, self.detail = reason, value, threshold, detail


class Failure(Exception):
    """The address could not be read this time.

    Args:
        reason: a word of the table in docs/crawl.md ("timeout", "http_503").
        detail: words for people.
        pause: seconds to wait at least, where the server said so.
        retry: False where asking again in the same run is of no use.
    """

    def __init__(self, reason: str, detail: str = "", pause: float | None = None, retry: bool = True) -> None:
        super().__init__(f"{reason} {detail}".strip())
        self.reason, self.detail, self.pause, self.retry = reason, detail, pause, retry


class Postponed(Exception):
    """The host rests for longer than this run waits: the address stays pending and no attempt is counted."""
