"""The SMART JS client (npm fhirclient 2.6.3) in Chromium: both launches, PKCE, what it reads afterwards."""

import json
import re
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.builders import ct_slice
from tests.live import LiveServer

LAUNCH = """<!doctype html><script src="fhir-client.min.js"></script><script>
const settings = {settings};
FHIR.oauth2.authorize({...settings, pkceMode: "required"})
  .catch(fault => { document.title = "fault " + fault; });
</script>"""
READY = """<!doctype html><meta charset="utf-8"><script src="fhir-client.min.js"></script><script>
FHIR.oauth2.ready().then(async client => {
  const patient = await client.patient.read();
  const studies = await client.request("ImagingStudy?patient=" + client.patient.id);
  const images = await fetch(new URL("/dicomweb/studies", client.state.serverUrl), {
    headers: {Authorization: client.getAuthorizationHeader(), Accept: "application/dicom+json"}});
  window.found = {patient: patient.id, studies: studies.entry.length, images: (await images.json()).length,
    user: client.getUserId(), scope: client.getState("tokenResponse.scope")};
  document.title = "ready";
}).catch(fault => { document.title = "fault " + fault; });
</script>"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves the app's files and says nothing of it."""

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def app_folder(tmp_path: Path, own_data: Path) -> Path:
    (tmp_path / "fhir-client.min.js").write_bytes(
        (own_data / "fhirclient" / "fhir-client.min.js").read_bytes()
    )
    (tmp_path / "ready.html").write_text(READY)
    return tmp_path


@pytest.fixture
def app_url(app_folder: Path) -> Iterator[str]:
    """An app on a site of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(app_folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def client_id(live_server: LiveServer, app_url: str) -> str:
    added = live_server.command(
        "access", "client", "add", "Viewer", "--redirect", f"{app_url}/ready.html",
        "--launch-url", f"{app_url}/launch.html",
    )  # fmt: skip
    return str(json.loads(added.stdout)["client_id"])


@pytest.fixture
def patient(live_server: LiveServer, tmp_path: Path) -> str:
    """A patient with one study; its logical id."""
    file = tmp_path / "slice.dcm"
    file.write_bytes(ct_slice())
    live_server.command("import", str(file))
    client = live_server.session()
    for _ in range(200):
        found = client.get(f"{live_server.url}/fhir/ImagingStudy?_count=1").json()
        if found.get("entry"):
            subject = found["entry"][0]["resource"]["subject"]["reference"]
            return str(subject.rpartition("/")[2])
        time.sleep(0.2)
    raise AssertionError("the study did not become an ImagingStudy")


@pytest.fixture
def page(browser: Browser, signed_in: Path) -> Iterator[Page]:
    context = browser.new_context(storage_state=signed_in, locale="zh-CN")
    yield context.new_page()
    context.close()


def write_launch(folder: Path, **settings: str) -> None:
    (folder / "launch.html").write_text(LAUNCH.replace("{settings}", json.dumps(settings)))


def result(page: Page) -> dict[str, Any]:
    page.wait_for_function("document.title.startsWith('ready') || document.title.startsWith('fault')")
    assert page.title() == "ready"
    return dict(page.evaluate("window.found"))


def test_an_app_that_starts_by_itself_asks_for_the_patient_and_reads_its_data(
    live_server: LiveServer, app_url: str, app_folder: Path, client_id: str, patient: str, page: Page
) -> None:
    write_launch(
        app_folder, iss=f"{live_server.url}/fhir", client_id=client_id, redirectUri=f"{app_url}/ready.html",
        scope="openid fhirUser launch/patient patient/*.rs",
    )  # fmt: skip
    page.goto(f"{app_url}/launch.html")
    page.wait_for_url(re.compile("/oauth/authorize"))
    page.locator(f'input[name="patient"][value="{patient}"]').check()
    page.get_by_role("button", name="同意").click()

    found = result(page)

    assert found["patient"] == patient
    assert found["studies"] == 1
    assert found["images"] == 1


def test_an_app_that_is_opened_from_the_portal_gets_the_patient_at_hand(
    live_server: LiveServer, app_url: str, app_folder: Path, client_id: str, patient: str, page: Page
) -> None:
    write_launch(
        app_folder, client_id=client_id, redirectUri=f"{app_url}/ready.html",
        scope="launch openid fhirUser user/*.rs",
    )  # fmt: skip
    page.goto(f"{live_server.url}/my/apps")
    page.locator("tbody a").first.click()
    page.locator(f'form[action="/apps/{client_id}/launch"] button').click()
    page.get_by_role("button", name="同意").click()

    found = result(page)

    assert found["patient"] == patient
    assert "user/*.rs" in found["scope"]
