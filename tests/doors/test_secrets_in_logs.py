"""A token that goes through a running server stands nowhere in what the server writes (threat 10)."""

import pytest
import requests

from tests.live import LiveServer

PLACES = (
    "/dicomweb/studies",
    "/fhir/Patient",
    "/fhir/metadata",
    "/api/nodes",
    "/nowhere",
    "/ohif/",
    "/metrics",
)


def test_a_token_stands_in_no_line_of_the_log(live_server: LiveServer) -> None:
    client = live_server.session()
    token = str(client.headers["Authorization"]).partition(" ")[2]
    assert len(token) > 20

    for place in PLACES:
        client.get(live_server.url + place, timeout=30)
        client.post(live_server.url + place, data=b"{", timeout=30)
    wrong = requests.get(
        f"{live_server.url}/dicomweb/studies", headers={"Authorization": f"Bearer {token}x"}, timeout=30
    )

    assert wrong.status_code == 401
    assert token not in wrong.text + str(wrong.headers)
    assert token not in live_server.output


@pytest.mark.parametrize("name", ["access_token", "token", "authorization"])
def test_a_token_in_an_address_opens_nothing_and_is_not_written_down(
    live_server: LiveServer, name: str
) -> None:
    token = str(live_server.session().headers["Authorization"]).partition(" ")[2]

    for place in ("/dicomweb/studies", "/fhir/Patient"):
        answer = requests.get(f"{live_server.url}{place}?{name}={token}", timeout=30)
        assert answer.status_code in (400, 401), place
    assert token not in live_server.output
