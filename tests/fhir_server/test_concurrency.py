"""Many writers at once leave exactly the right versions, on a real server and on each database."""

import json
import threading
from collections.abc import Callable

import requests

from tests.live import LiveServer

WRITERS = 16
JSON = {"Content-Type": "application/fhir+json"}


def at_once(server: LiveServer, act: Callable[[requests.Session, int], int]) -> list[int]:
    """The statuses of an act by each of the writers, begun together."""
    token = server.token()
    ready = threading.Barrier(WRITERS)
    statuses: list[int] = []

    def work(number: int) -> None:
        with requests.Session() as client:
            client.trust_env = False
            client.headers.update({"Authorization": f"Bearer {token}"} | JSON)
            ready.wait()
            statuses.append(act(client, number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def organization(logical_id: str, number: int) -> str:
    return json.dumps({"resourceType": "Organization", "id": logical_id, "name": f"F{number}",
                       "identifier": [{"system": "urn:race", "value": logical_id}]})  # fmt: skip


def versions(server: LiveServer, place: str) -> list[str]:
    answer = server.session().get(f"{server.url}/fhir/{place}/_history?_count=100").json()
    return [entry["resource"]["meta"]["versionId"] for entry in answer["entry"]]


def test_sixteen_writers_of_one_resource_make_sixteen_versions(common_server: LiveServer) -> None:
    url = f"{common_server.url}/fhir/Organization/race-1"
    statuses = at_once(
        common_server, lambda client, at: client.put(url, data=organization("race-1", at)).status_code
    )

    assert sorted(statuses) == [200] * (WRITERS - 1) + [201]
    assert versions(common_server, "Organization/race-1") == [str(at) for at in range(WRITERS, 0, -1)]
    found = (
        common_server.session()
        .get(f"{common_server.url}/fhir/Organization?identifier=urn:race|race-1")
        .json()
    )
    assert len(found["entry"]) == 1


def test_of_sixteen_who_count_on_one_version_one_writes(common_server: LiveServer) -> None:
    url = f"{common_server.url}/fhir/Organization/race-2"
    common_server.session().put(url, data=organization("race-2", 0), headers=JSON)
    condition = {"If-Match": 'W/"1"'}
    statuses = at_once(
        common_server,
        lambda client, at: client.put(url, data=organization("race-2", at), headers=condition).status_code,
    )

    assert sorted(statuses) == [200] + [412] * (WRITERS - 1)
    assert versions(common_server, "Organization/race-2") == ["2", "1"]


def test_of_sixteen_conditional_creations_one_creates(common_server: LiveServer) -> None:
    url = f"{common_server.url}/fhir/Organization"
    condition = {"If-None-Exist": "identifier=urn:race|race-3"}
    statuses = at_once(
        common_server,
        lambda client, at: client.post(url, data=organization("race-3", at), headers=condition).status_code,
    )

    assert sorted(statuses) == [200] * (WRITERS - 1) + [201]
    found = common_server.session().get(f"{url}?identifier=urn:race|race-3&_total=accurate").json()
    assert found["total"] == 1


def test_sixteen_transactions_over_the_same_resources_all_happen(common_server: LiveServer) -> None:
    def transaction(client: requests.Session, at: int) -> int:
        names = [f"race-4-{number}" for number in range(6)]
        if at % 2:
            names.reverse()  # the other way round: no two of them may wait for each other
        entries = [
            {
                "resource": json.loads(organization(name, at)),
                "request": {"method": "PUT", "url": f"Organization/{name}"},
            }
            for name in names
        ]
        entries.append({"resource": json.loads(organization("race-4", at)),
                        "request": {"method": "PUT", "url": "Organization?identifier=urn:race|race-4"}},
        )  # fmt: skip
        body = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        return client.post(f"{common_server.url}/fhir", data=json.dumps(body)).status_code

    assert at_once(common_server, transaction) == [200] * WRITERS
    for name in (*(f"race-4-{number}" for number in range(6)), "race-4"):
        assert versions(common_server, f"Organization/{name}") == [str(at) for at in range(WRITERS, 0, -1)]
