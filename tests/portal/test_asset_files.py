"""Styles and scripts of the server's own pages: compressed once, asked for again only when they changed."""

import gzip

import pytest
from flask.testing import FlaskClient

from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from portal.asset_files import ASSETS, FOLDER


@pytest.fixture
def browser(rooms: Rooms) -> FlaskClient:
    return create_app(rooms).test_client()


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.iterdir()))
def test_a_file_comes_compressed_to_who_takes_that_and_is_the_same(browser: FlaskClient, name: str) -> None:
    plain = browser.get(f"/assets/{name}", headers={"Accept-Encoding": "identity"})
    packed = browser.get(f"/assets/{name}", headers={"Accept-Encoding": "gzip, br"})

    assert plain.data == (FOLDER / name).read_bytes()
    assert "Content-Encoding" not in plain.headers
    if not name.endswith(".png"):
        assert packed.headers["Content-Encoding"] == "gzip"
        assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
        assert packed.data == ASSETS[name].packed  # the same bytes each time: nothing is compressed again
        assert gzip.decompress(packed.data) == plain.data
        assert packed.headers["ETag"] != plain.headers["ETag"]


def test_the_styles_of_the_patients_pages_are_small_on_the_wire(browser: FlaskClient) -> None:
    answer = browser.get("/assets/film.css", headers={"Accept-Encoding": "gzip"})

    assert answer.content_type == "text/css; charset=utf-8"
    assert len(answer.data) < 6000


def test_what_a_browser_has_is_not_sent_again(browser: FlaskClient) -> None:
    had = browser.get("/assets/page.css", headers={"Accept-Encoding": "gzip"})
    headers = {"Accept-Encoding": "gzip", "If-None-Match": had.headers["ETag"]}

    assert browser.get("/assets/page.css", headers=headers).status_code == 304


def test_nothing_else_is_served(browser: FlaskClient) -> None:
    for name in ("none.css", "../account.py", "%2e%2e/account.py", ""):
        assert browser.get(f"/assets/{name}").status_code == 404


@pytest.mark.parametrize("path", ["/sign-in", "/patient/sign-in", "/share"])
def test_a_page_names_its_icon_so_that_browsers_do_not_guess_one(browser: FlaskClient, path: str) -> None:
    page = browser.get(path).get_data(as_text=True)

    assert '<link rel="icon" href="/assets/icon.svg">' in page
    assert browser.get("/assets/icon.svg").mimetype == "image/svg+xml"
