"""Pace, Retry-After and back-off as pure functions of the time, and robots.txt after RFC 9309."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from bolid.crawler.politeness import Pace, backoff, retry_after
from bolid.crawler.robots import Robots

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("99999999", 86400.0),
        ("9" * 400, 86400.0),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
        (None, None),
        ("soon", None),
        ("Sun, 01 Mar 2026 12:02:00 GMT", 120.0),
        ("Sunday, 01-Mar-26 12:02:00 GMT", 120.0),
        ("Sun Mar  1 12:02:00 2026", 120.0),
        ("Sun, 01 Mar 2026 14:02:00 +0200", 120.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Tue, 01 Mar 2033 12:00:00 GMT", 86400.0),
    ],
)
def test_retry_after(header, seconds) -> None:
    assert retry_after(header, NOW) == seconds


def spans(pace: Pace, begin: float, count: int) -> list[float]:
    """The times at which `count` requests go out that all want to go at once."""
    return [begin + pace.reserve(begin) for _ in range(count)]


def test_requests_are_spaced_by_the_rate() -> None:
    assert spans(Pace(2.0), 100.0, 4) == [100.0, 100.5, 101.0, 101.5]


def test_a_pause_of_the_crawler_earns_no_burst_at_a_low_rate() -> None:
    pace = Pace(2.0)
    pace.reserve(100.0)
    assert spans(pace, 200.0, 3) == [200.0, 200.5, 201.0]


@pytest.mark.parametrize("rate", [0.5, 3.0, 20.0, 1000.0])
def test_no_second_holds_more_than_the_rate(rate) -> None:
    """A burst of a tenth of a second at most is on top."""
    pace, now, sent = Pace(rate), 50.0, []
    for _ in range(int(5 * rate) + 5):
        now = max(now, now + pace.reserve(now))
        sent.append(now)
    for first in sent:
        assert sum(first <= each < first + 1 for each in sent) <= rate * 1.1 + 1


def test_overload_halves_once_for_requests_under_way_together_and_recovers_slowly() -> None:
    pace = Pace(8.0)
    for asked in (10.0, 10.1, 10.2):
        pace.overloaded(asked, 11.0, None)
    assert pace.rate == 4.0
    pace.overloaded(12.0, 13.0, None)
    assert pace.rate == 2.0
    pace.good()
    assert 2.0 < pace.rate < 2.2
    for _ in range(1000):
        pace.good()
    assert pace.rate == 8.0


def test_the_rate_has_a_floor() -> None:
    pace = Pace(8.0)
    for n in range(100):
        pace.overloaded(2.0 * n, 2.0 * n + 1, None)
    assert pace.rate == 8.0 / 64


def test_retry_after_holds_back_the_next_request() -> None:
    pace = Pace(8.0)
    pace.overloaded(10.0, 10.0, 30.0)
    assert pace.reserve(10.0) == 30.0


def test_crawl_delay_bounds_the_rate() -> None:
    pace = Pace(8.0)
    pace.limit(4.0)
    assert spans(pace, 10.0, 3) == [10.0, 14.0, 18.0]
    pace.limit(0.01)
    assert pace.rate == 0.25
    asked = Pace(2.0)
    asked.reserve(10.0)
    asked.limit(4.0)
    assert spans(asked, 10.0, 2) == [14.0, 18.0]


def test_backoff_doubles_with_jitter_up_to_a_minute() -> None:
    chance = random.Random(1)
    for tries, middle in [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (20, 60.0)]:
        waits = [backoff(tries, 1.0, chance) for _ in range(200)]
        assert middle * 0.5 <= min(waits) < middle * 0.6
        assert middle * 1.4 < max(waits) <= middle * 1.5


def test_a_retry_after_of_a_day_before_is_over() -> None:
    assert retry_after((NOW - timedelta(days=1)).strftime("%a, %d %b %Y %H:%M:%S GMT"), NOW) == 0.0


# --- robots.txt: most cases after google/robotstxt (robots_test.cc), by the same names ---------------------------

FOO = "user-agent: bolid\n"
ROBOTS = [
    ("ID_LineSyntax_Line", "user-agent: bolid\ndisallow: /\n", "/x/y", False),
    ("ID_LineSyntax_Line, no key", "foo: bolid\nbar: /\n", "/x/y", True),
    ("ID_LineSyntax_Line, no colon", "user-agent bolid\ndisallow /\n", "/x/y", False),
    ("ID_UserAgentValueCaseInsensitive", "USER-AGENT: BOLID\nDISALLOW: /x/\n", "/x/y", False),
    ("ID_UserAgentValueCaseInsensitive, other", "user-agent: bolid\nallow: /x/\ndisallow: /\n", "/a/b", False),
    ("ID_GlobalGroups_Secondary, empty", "", "/x/y", True),
    ("ID_GlobalGroups_Secondary, own group", "user-agent: *\nallow: /\nuser-agent: bolid\ndisallow: /\n", "/x", False),
    ("ID_GlobalGroups_Secondary, others", "user-agent: foo\nallow: /\nuser-agent: bar\ndisallow: /\n", "/x", True),
    ("ID_LongestMatch, disallow", FOO + "disallow: /x/page.html\nallow: /x/\n", "/x/page.html", False),
    ("ID_LongestMatch, allow", FOO + "allow: /x/page.html\ndisallow: /x/\n", "/x/page.html", True),
    ("ID_LongestMatch, tie allows", FOO + "disallow: /x/page.html\nallow: /x/page.html\n", "/x/page.html", True),
    ("ID_LongestMatch, empty rules", FOO + "disallow:\nallow:\n", "/x/page.html", True),
    ("ID_LongestMatch, wildcard", FOO + "disallow: *.html\nallow: /page\n", "/page.html", False),
    ("ID_Encoding, query", FOO + "disallow: /\nallow: /foo/bar?qux=taz&baz=%2F\n", "/foo/bar?qux=taz&baz=%2F", True),
    ("ID_Encoding, UTF-8", FOO + "disallow: /\nallow: /foo/bar/ツ\n", "/foo/bar/%E3%83%84", True),
    ("ID_SpecialCharacters, star", FOO + "disallow: /foo/bar*quz\n", "/foo/bar/baz/quz", False),
    ("ID_SpecialCharacters, end", FOO + "disallow: /foo/bar$\n", "/foo/bar/quz", True),
    ("ID_SpecialCharacters, comment", FOO + "# comment\ndisallow: /foo/quz#q\n", "/foo/quz", False),
    ("byte order mark", "\ufeffuser-agent: bolid\ndisallow: /\n", "/x", False),
    ("a token is a whole word", "user-agent: bolidex\ndisallow: /\n", "/x", True),
    ("a part of the token is another word", "user-agent: bo\ndisallow: /\nuser-agent: i\ndisallow: /\n", "/x", True),
    ("a version is no part of the token", "user-agent: bolid/1.0 (+me)\ndisallow: /\n", "/x", False),
    ("words behind the token", "user-agent: Bolid crawler\ndisallow: /\n", "/x", False),
    ("nobody is named", "user-agent:\ndisallow: /\n", "/x", True),
    ("everybody, and a comment", "user-agent: * # all\ndisallow: /\n", "/x", False),
    ("carriage returns only", "user-agent: *\rdisallow: /\r", "/x", False),
    ("groups of one agent are one", FOO + "disallow: /a\n\n" + FOO + "disallow: /x\n", "/x", False),
]


@pytest.mark.parametrize(("case", "text", "path", "allowed"), ROBOTS, ids=[case for case, *_ in ROBOTS])
def test_robots_rules(case, text, path, allowed) -> None:
    assert Robots(200, text.encode()).allows(f"https://foo.bar{path}") is allowed


@pytest.mark.parametrize(
    ("status", "allowed", "unavailable"),
    [(404, True, False), (403, True, False), (410, True, False), (401, True, False), (429, False, True),
     (500, False, True), (503, False, True), (0, False, True), (200, True, False)],
)  # fmt: skip
def test_robots_status(status, allowed, unavailable) -> None:
    robots = Robots(status)
    assert (robots.allows("https://foo.bar/x"), robots.unavailable) == (allowed, unavailable)


def test_only_500_kib_are_read() -> None:
    padding = b"#" + b"x" * (500 * 1024) + b"\n"
    rule = b"user-agent: bolid\ndisallow: /\n"
    assert not Robots(200, rule + padding).allows("https://foo.bar/x")
    assert Robots(200, padding + rule).allows("https://foo.bar/x")


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("user-agent: *\ncrawl-delay: 3", 3.0),
        ("user-agent: bolid\ncrawl-delay: 0.5\nuser-agent: *\ncrawl-delay: 9", 0.5),
        ("user-agent: other\ncrawl-delay: 3", None),
        ("user-agent: *\ncrawl-delay: soon", None),
        ("user-agent: *\ncrawl-delay: -1", None),
    ],
)
def test_crawl_delay(text, delay) -> None:
    assert Robots(200, text.encode()).delay == delay
