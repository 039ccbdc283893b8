"""The site has the page structure of site_theplace.md, read here with BeautifulSoup as a person would write it down."""

from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests
from bolid.demo.gallery import Kind, Offer
from bolid.demo.site import THUMBNAILS_A_PAGE, GallerySite, serving
from bolid.errors import SiteError
from bs4 import BeautifulSoup

OFFERS = [
    Offer(identity, f"{letter}nn-{identity:06d}", f"{letter.upper()}nn Ñ", number, Kind.CLEAN, f"{number}.jpg")
    for identity, letter in ((0, "a"), (1, "b"), (2, "a"))
    for number in range(1, THUMBNAILS_A_PAGE + 4)
]


@pytest.fixture
def site(tmp_path: Path):
    for offer in OFFERS:
        path = tmp_path / offer.slug / f"{offer.number:04d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"photo %d" % offer.number)
    with serving(GallerySite(OFFERS, tmp_path)) as address:
        yield address


def page(address: str) -> BeautifulSoup:
    answer = requests.get(address, timeout=10)
    assert answer.status_code == 200
    return BeautifulSoup(answer.content, "lxml")


def test_from_the_index_to_the_picture(site: str):
    letters = page(f"{site}/photos/").select("div.letters-list a[href]")
    assert [letter.text for letter in letters] == ["A", "B"]
    people = page(urljoin(site, letters[0]["href"])).select("div.models_list a[href]")
    assert [person["href"] for person in people] == ["/photos/ann-000000/", "/photos/ann-000002/"]
    person = page(urljoin(site, people[0]["href"]))
    assert person.h1.text == "Ann Ñ"
    assert person.select_one("div.d-none.d-sm-block p").text.split()[1] == str(THUMBNAILS_A_PAGE + 3)
    links = person.select("a.photos-pic-card__link")
    assert len(links) == THUMBNAILS_A_PAGE
    image = page(urljoin(site, links[2]["href"])).select_one("img.pic.big_pic")["src"]
    assert requests.get(urljoin(site, image), timeout=10).content == b"photo 3"


def test_the_older_layout_has_the_older_encoding(site: str):
    answer = requests.get(f"{site}/photos/bnn-000001/?page=2", timeout=10)
    assert "charset" not in answer.headers["Content-Type"]
    assert b'<meta charset="windows-1251">' in answer.content
    assert "Всего" in answer.content.decode("windows-1251")
    person = BeautifulSoup(answer.content, "lxml")
    links = person.select("div.p-1 div.gallery-photo-card a")
    assert len(links) == 3
    assert [a["href"] for a in person.select("div.listalka a")] == [f"/photos/bnn-000001/?page={n}" for n in (1, 2)]
    picture = page(urljoin(site, links[0]["href"]))
    assert picture.select_one("div.pic-big-box__main > span.s-pic > img")["src"] == "/media/bnn-000001/0011.jpg"


@pytest.mark.parametrize(
    "path",
    [
        "/photos/nobody/",
        "/photos/ann-000000/?page=9",
        "/photos/ann-000000/?page=x",
        "/photos/ann-000000/999/",
        "/photos/letter/z/",
        "/media/ann-000000/9999.jpg",
        "/media/ann-000000/..%2f..%2fetc%2fpasswd",
        "/media/../etc/passwd",
    ],
)
def test_what_is_not_there_is_404(site: str, path: str):
    assert requests.get(site + path, timeout=10).status_code == 404


def test_a_busy_port_is_a_message_and_port_0_is_always_free(site: str, tmp_path: Path):
    port = int(site.rpartition(":")[2])
    with pytest.raises(SiteError, match=f"port {port}"), serving(GallerySite(OFFERS, tmp_path), port):
        pass
    with serving(GallerySite(OFFERS, tmp_path)) as other:
        assert other != site
