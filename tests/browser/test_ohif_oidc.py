"""OHIF on a site of its own, as an OpenID Connect client of ours: code flow with PKCE, images by its token.

Its pages come from another origin and it holds no cookie of ours, so that all it shows came with the bearer
token that somebody approved.
"""

import json
import mimetypes
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request

from portal.ohif import CONFIGURATION
from portal.ohif_dist import BASE_PATH, FOLDER
from tests.browser.test_ohif import WITHIN_MS, stored_phantom, wait_for_slice
from tests.live import LiveServer

PAGE = """<!doctype html><html><head><meta charset="utf-8"><link rel="stylesheet" href="/ohif/app.bundle.css">
<script src="/ohif/app-config.js"></script><script defer src="/ohif/%s"></script></head>
<body><div id="react-portal"></div><div id="root"></div></body></html>"""


class Site(ThreadingHTTPServer):
    """A web server of somebody else, with OHIF's files and a configuration of its own."""

    script = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Files as they lie, compressed; the page for every path that is none."""

    server: Site

    def do_GET(self) -> None:
        name = urlsplit(self.path).path.removeprefix(BASE_PATH)
        packed, plain = FOLDER / f"{name}.gz", FOLDER / name
        headers = {"Content-Type": mimetypes.guess_type(name)[0] or "text/html"}
        if name == "app-config.js":
            body = self.server.script.encode()
        elif packed.is_file():
            body, headers["Content-Encoding"] = packed.read_bytes(), "gzip"
        elif name and plain.is_file():
            body = plain.read_bytes()
        else:
            body = (PAGE % next(FOLDER.glob("app.bundle.*.js.gz")).stem).encode()
        self.send_response(200)
        for field, value in headers.items():
            self.send_header(field, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def script(server_url: str, client_id: str) -> str:
    """OHIF's own configuration for a site that signs in at ours (docs.ohif.org, Authentication)."""
    source = CONFIGURATION["dataSources"][0]
    here = {"qidoRoot": f"{server_url}/dicomweb", "wadoRoot": f"{server_url}/dicomweb"}
    configuration = {
        **CONFIGURATION,
        "dataSources": [{**source, "configuration": {**source["configuration"], **here}}],
        "oidc": [
            {
                "authority": server_url,
                "client_id": client_id,
                "redirect_uri": "/callback",
                "post_logout_redirect_uri": "/signed-out",
                "response_type": "code",
                "scope": "openid profile user/ImagingStudy.rs",
                "extraQueryParams": {"aud": f"{server_url}/fhir"},
                "automaticSilentRenew": False,
            }
        ],
    }
    return (
        "window.PUBLIC_URL = '/ohif/'; window.browserImportFunction = (name) => import(name);"
        f"window.config = {json.dumps(configuration)};"
    )


@pytest.fixture
def site(live_server: LiveServer) -> Iterator[Site]:
    server = Site(("127.0.0.1", 0), Handler)
    added = live_server.command(
        "access", "client", "add", "OHIF elsewhere", "--redirect", f"{server.url}/ohif/callback",
        "--redirect", f"{server.url}/ohif/signed-out",
    )  # fmt: skip
    server.script = script(live_server.url, str(json.loads(added.stdout)["client_id"]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser: Browser, signed_in: Path) -> Iterator[Page]:
    context = browser.new_context(
        storage_state=signed_in, locale="zh-CN", viewport={"width": 1280, "height": 800}
    )
    context.set_default_timeout(WITHIN_MS)
    yield context.new_page()
    context.close()


def test_ohif_elsewhere_signs_in_by_code_and_shows_images_by_its_token(
    live_server: LiveServer, site: Site, page: Page, tmp_path: Path
) -> None:
    study = stored_phantom(live_server, tmp_path)
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))

    page.goto(f"{site.url}/ohif/viewer?StudyInstanceUIDs={study}")
    page.wait_for_url(re.compile("/oauth/authorize"))
    request = {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}
    page.get_by_role("button", name="同意").click()
    page.wait_for_url(re.compile(f"{site.url}/ohif/viewer"))
    wait_for_slice(page, 1)

    assert (request["response_type"], request["code_challenge_method"]) == ("code", "S256")
    images = [each for each in asked if each.url.startswith(f"{live_server.url}/dicomweb/")]
    assert images
    for each in images:
        assert each.headers["authorization"].startswith("Bearer "), each.url
        assert "cookie" not in each.all_headers(), each.url
    token = images[0].headers["authorization"].partition(" ")[2]
    assert not any(token in each.url for each in asked)


def test_ohif_elsewhere_signs_out_and_its_token_is_over(
    live_server: LiveServer, site: Site, page: Page
) -> None:
    page.goto(f"{site.url}/ohif/")
    page.wait_for_url(re.compile("/oauth/authorize"))
    with page.expect_request(re.compile("/dicomweb/studies")) as first:
        page.get_by_role("button", name="同意").click()
    headers = {"Authorization": first.value.headers["authorization"]}
    studies = f"{live_server.url}/dicomweb/studies?limit=1"
    assert page.context.request.get(studies, headers=headers).status in (200, 204)

    page.goto(f"{site.url}/ohif/logout?redirect_uri={site.url}/ohif/signed-out")
    page.wait_for_url(lambda url: urlsplit(url).path in ("/ohif/signed-out", "/oauth/authorize", "/sign-in"))

    assert page.context.request.get(studies, headers=headers).status == 401
