"""What the server sends, judged by validators that others wrote (npm `fhir` and `@medplum/core`)."""

import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from access.caller import operator as make_operator
from archive.ingest import ingest
from archive.rest import rest_study
from cloudfilm.rooms import Rooms
from cloudfilm.site_resources import publish_site
from cloudfilm.web import create_app
from records.audit_events import index_audit
from tests.builders import ROOT, ct_slice
from tests.fhir_server.test_fhir import bearer
from tests.fhir_server.test_interactions import PATIENT, Fhir, bundle, entry
from tests.settling import settle

JUDGES = Path(__file__).parents[1] / "judges"


@pytest.fixture(scope="module")
def judges() -> Path:
    """The folder of the judges, fetched by their lockfile when they are not there yet."""
    if not (JUDGES / "node_modules").is_dir():
        subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=JUDGES, check=True, capture_output=True,
        )  # fmt: skip
    return JUDGES


def judged(judges: Path, resources: list[dict[str, Any]]) -> dict[str, list[str]]:
    """What the judges complain of, by the resource's type and number."""
    lines = "\n".join(json.dumps(each) for each in resources)
    done = subprocess.run(
        ["node", "judge.mjs"], cwd=judges, input=lines, capture_output=True, text=True, check=True
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(resources)
    return {
        f"{at} {resources[at]['resourceType']}": complaints
        for at, complaints in enumerate(found)
        if complaints
    }


def test_the_judges_see_what_is_wrong(judges: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"resourceType": "Patient", "gender": "malex"},
        {"resourceType": "Patient", "birthDate": "2024-13-40"},
        {"resourceType": "Patient", "contact": [{"gender": "male"}]},
        {"resourceType": "Patient", "nothing": 1},
    ]

    assert len(judged(judges, wrong)) == len(wrong)


def test_everything_that_the_server_sends_is_valid(rooms: Rooms, judges: Path) -> None:
    for instance in (1, 2):
        ingest(rooms.archive, make_operator(), io.BytesIO(ct_slice(instance=instance)))
    rest_study(rooms.archive, f"{ROOT}.1")
    settle(rooms)
    publish_site(rooms)
    fhir = Fhir(create_app(rooms).test_client(), bearer(rooms))
    fhir.send("PUT", "/Patient/a", PATIENT | {"id": "a"}, 201)
    index_audit(rooms.records)
    sent = [
        fhir.get(path)
        for path in (
            "/metadata", "/Patient", "/Patient/a", "/ImagingStudy?_include=*&_total=accurate",
            "/Patient/a/_history", "/_history", "/AuditEvent", "/Organization", "/Endpoint",
            "/ImagingStudy?_summary=true",
            "/Patient?_elements=name&_count=1",
        )
    ]  # fmt: skip
    for bundle_type in ("batch", "transaction"):
        body = bundle(bundle_type, entry("POST", "Patient", PATIENT), entry("GET", "Patient?_count=1"))
        sent.append(json.loads(fhir.send("POST", "/", body, 200).data))
    sent.append(json.loads(fhir.send("GET", "/Patient?nosuch=1", status=400).data))
    sent += [each["resource"] for page in sent for each in page.get("entry", ()) if "resource" in each]

    assert judged(judges, sent) == {}
