"""Runs HL7's terminology ecosystem tests (HL7/fhir-tx-ecosystem-ig, folder `tests`) against the FHIR door:

    python -m tests.terminology.ecosystem FOLDER [--suite NAME] [--verbose]

Each case is a request and the answer that is expected, in R5 form; what R4 writes otherwise is let pass. Two
counts are printed for each suite: cases whose answer has every part that is expected and not optional, issues
with their severity, code and place included ("exact"), and cases whose meaning is right ("same meaning"): the
result, code, system and display of a validation; the codes of an expansion with their names, states and
places; the matches of a translation; an error where one is expected. Messages for people are compared in
neither.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

import cloudfilm.models  # noqa: F401 - all tables
from access.tokens import issue
from cloudfilm.rooms import build_rooms
from cloudfilm.web import create_app
from kernel.database import Base
from kernel.settings import BlobsSettings, DatabaseSettings, Settings

OPERATIONS = {
    "expand": "ValueSet/$expand",
    "validate-code": "ValueSet/$validate-code",
    "cs-validate-code": "CodeSystem/$validate-code",
    "lookup": "CodeSystem/$lookup",
    "translate": "ConceptMap/$translate",
}
GENERAL = (None, "general")
IGNORED = frozenset({"message", "diagnostics", "text", "location", "identifier", "timestamp", "id", "date"})
IGNORED_PARAMETERS = frozenset({"message", "x-caused-by-unknown-system", "x-unknown-system"})


def load(path: Path) -> Any:
    """A JSON file, with or without a byte order mark."""
    return json.loads(path.read_text("utf-8-sig"))


def client_of_a_new_server(folder: str) -> tuple[FlaskClient, dict[str, str]]:
    """A server with an empty database, and the headers of a caller who may do everything."""
    settings = Settings(
        data_dir=Path(folder),
        database=DatabaseSettings(url=f"sqlite:///{folder}/cloudfilm.db"),
        blobs=BlobsSettings(url=f"file://{folder}/blobs", durable=False),
    )
    rooms = build_rooms(settings)
    Base.metadata.create_all(rooms.database.engine)
    with rooms.database.transaction() as session:
        secret = issue(rooms.access, session, "access", life_s=86400, role="operator", scope="user/*.cruds")
    headers = {"Authorization": f"Bearer {secret}", "Accept-Language": "*"}
    return create_app(rooms).test_client(), headers


def run_case(
    client: FlaskClient, headers: dict[str, str], folder: Path, setup: list[Any], case: dict[str, Any]
) -> tuple[str, Any, Any]:
    """`exact`, `meaning`, `wrong` or `skipped`; and what was answered and expected."""
    path = OPERATIONS.get(case["operation"])
    if path is None or "request" not in case:
        return "skipped", None, None
    body = load(folder / case["request"])
    more = [{"name": "tx-resource", "resource": each} for each in setup]
    if case.get("profile"):
        more += load(folder / case["profile"]).get("parameter", [])
    body["parameter"] = [*body.get("parameter", []), *more]
    sent = dict(headers)
    if case.get("Accept-Language"):
        sent["Accept-Language"] = case["Accept-Language"]
    answer = client.post(f"/fhir/{path}", json=body, headers=sent)
    expected = load(folder / case["response"])
    found = answer.get_json(force=True, silent=True) or {}
    if answer.status_code >= 500:
        return "wrong", found, expected
    if expected.get("resourceType") == "OperationOutcome" or found.get("resourceType") == "OperationOutcome":
        same = expected.get("resourceType") == found.get("resourceType") and answer.status_code >= 400
        return ("exact" if same else "wrong"), found, expected
    if matches(pruned(expected), pruned(found)):
        return "exact", found, expected
    meaning = MEANINGS[case["operation"]]
    return ("meaning" if meaning(expected) == meaning(found) else "wrong"), found, expected


def pruned(value: Any) -> Any:
    """Without what is not compared, and expansions' properties as R4 writes them."""
    if isinstance(value, list):
        return [
            pruned(each)
            for each in value
            if not (isinstance(each, dict) and each.get("name") in IGNORED_PARAMETERS)
        ]
    if isinstance(value, dict):
        return {key: pruned(each) for key, each in value.items() if key not in IGNORED}
    return value


def matches(expected: Any, found: Any) -> bool:
    """Whether an answer has what is expected; the order of lists does not matter."""
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return False
        optional = set(expected.get("$optional-properties$", ()))
        for key, value in expected.items():
            if key.startswith("$"):
                continue
            if key not in found:
                if key in optional or (isinstance(value, dict) and "$optional$" in value):
                    continue
                if key == "property":  # R5; R4 writes it in extensions
                    continue
                if isinstance(value, list) and all(
                    isinstance(each, dict) and "$optional$" in each for each in value
                ):
                    continue
                return False
            if not matches(value, found[key]):
                return False
        return True
    if isinstance(expected, list):
        if not isinstance(found, list):
            return False
        left = list(found)
        for each in expected:
            at = next((at for at, other in enumerate(left) if matches(each, other)), None)
            if at is None:
                if isinstance(each, dict) and "$optional$" in each:
                    continue
                if isinstance(each, dict) and str(each.get("url", "")).startswith("http://hl7.org/fhir/5"):
                    continue
                return False
            left.pop(at)
        return True
    if isinstance(expected, str) and expected.startswith("$"):
        return True
    return bool(expected == found)


def values(document: dict[str, Any]) -> dict[str, Any]:
    """Parameters by name."""
    found: dict[str, Any] = {}
    for each in document.get("parameter", ()):
        value = next((item for key, item in each.items() if key.startswith("value")), None)
        found.setdefault(each["name"], value)
    return found


def meaning_of_validation(document: dict[str, Any]) -> Any:
    """The result, and what the code is when it is right."""
    said = values(document)
    keys = ("result", "code", "system", "display") if said.get("result") else ("result",)
    return [said.get(key) for key in keys]


def meaning_of_expansion(document: dict[str, Any]) -> Any:
    """The codes with their displays and states, in their order and places."""

    def shown(contains: list[dict[str, Any]]) -> Any:
        return sorted(
            (
                each.get("system"), each.get("code"), each.get("display"), bool(each.get("abstract")),
                bool(each.get("inactive")), str(shown(each.get("contains", []))),
            )
            for each in contains
        )  # fmt: skip

    return shown(document.get("expansion", {}).get("contains", []))


def meaning_of_lookup(document: dict[str, Any]) -> Any:
    """What the code is called."""
    said = values(document)
    return [said.get("name"), said.get("display"), said.get("version")]


def meaning_of_translation(document: dict[str, Any]) -> Any:
    """The matches."""
    found = []
    for each in document.get("parameter", ()):
        if each["name"] == "match":
            coding: dict[str, Any] = next(
                (part["valueCoding"] for part in each["part"] if part["name"] == "concept"), {}
            )
            found.append((coding.get("system"), coding.get("code")))
    return [values(document).get("result"), sorted(found)]


MEANINGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "expand": meaning_of_expansion,
    "validate-code": meaning_of_validation,
    "cs-validate-code": meaning_of_validation,
    "lookup": meaning_of_lookup,
    "translate": meaning_of_translation,
}


def main() -> None:
    """Run the suites for general servers and print the counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--suite", default="")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--all", action="store_true", help="also suites written for other servers")
    asked = parser.parse_args()
    cases = load(asked.folder / "test-cases.json")
    print("| suite | cases | exact | same meaning | wrong |\n| --- | --- | --- | --- | --- |")
    sums = [0, 0, 0, 0]
    with tempfile.TemporaryDirectory() as folder:
        client, headers = client_of_a_new_server(folder)
        for suite in cases["suites"]:
            if asked.suite not in ("", suite["name"]) or not (asked.all or suite.get("mode") in GENERAL):
                continue
            setup = [load(asked.folder / each) for each in suite.get("setup", ())]
            counts = {"exact": 0, "meaning": 0, "wrong": 0}
            for case in suite["tests"]:
                if not (asked.all or case.get("mode") in GENERAL):
                    continue
                how, found, expected = run_case(client, headers, asked.folder, setup, case)
                if how == "skipped":
                    continue
                counts[how] += 1
                if asked.verbose and how != "exact":
                    print(
                        f"--- {how} {case['name']}\n    found    {short(found)}\n    expected "
                        f"{short(expected)}"
                    )
            total = sum(counts.values())
            if total:
                row = [total, counts["exact"], counts["exact"] + counts["meaning"], counts["wrong"]]
                sums = [one + other for one, other in zip(sums, row, strict=True)]
                print(f"| {suite['name']} | {' | '.join(map(str, row))} |")
    print(f"| all | {' | '.join(map(str, sums))} |")


def short(value: Any) -> str:
    """A document on one line, without spaces."""
    return re.sub(r"\s+", " ", json.dumps(value, ensure_ascii=False))[:3000]


if __name__ == "__main__":
    main()
