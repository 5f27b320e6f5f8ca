"""Entries of the trail as DICOM audit messages, judged by the standard's schema, in syslog's envelope."""

from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from access.audit import COLUMNS
from access.audit_message import EVENTS, audit_message, syslog_message
from access.model import AuditEntry

SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).parents[1] / "data" / "audit_message.rng"))
AT = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)


def entry(**values: Any) -> AuditEntry:
    """An entry of a radiologist who read a study, unless told otherwise."""
    known = {
        "seq": 7, "at": AT, "principal_id": "a1", "principal_name": "李医生", "principal_kind": "account",
        "door": "dicomweb", "address": "10.0.0.1", "action": "read ImagingStudy", "outcome": "done",
        "subject": "1.2.3", "patient_id": "p1", "grant": "t1", "purpose": "TREAT", "detail": "", "hash": "ab",
    }  # fmt: skip
    return AuditEntry(**{**known, **values})


def value(message: etree._Element, path: str) -> str:
    (found,) = message.xpath(path)
    return str(found)


def test_an_entry_is_the_event_that_dicom_has_for_it() -> None:
    message = audit_message(entry())

    assert value(message, "EventIdentification/EventID/@csd-code") == "110103"
    assert value(message, "EventIdentification/@EventActionCode") == "R"
    assert value(message, "EventIdentification/@EventOutcomeIndicator") == "0"
    assert value(message, "EventIdentification/@EventDateTime") == "2026-03-01T08:30:00.000Z"
    assert value(message, "ActiveParticipant[@UserIsRequestor='true']/@UserName") == "李医生"
    assert value(message, "ActiveParticipant[@UserIsRequestor='true']/@NetworkAccessPointID") == "10.0.0.1"
    objects = message.xpath("ParticipantObjectIdentification")
    assert [each.get("ParticipantObjectID") for each in objects] == ["1.2.3", "p1", "7"]
    assert objects[0][0].get("csd-code") == "110180"
    details = {each.get("type"): b64decode(each.get("value")).decode() for each in objects[2][2:]}
    assert details == {"hash": "ab", "door": "dicomweb", "purpose": "TREAT", "grant": "t1"}


@pytest.mark.parametrize(
    ("action", "event", "event_type"),
    [
        ("sign in", "110114", "110122"),
        ("export AuditTrail", "110101", "99CLOUDFILM"),
        ("break glass", "110113", "110127"),
        ("delete ImagingStudy", "110105", "99CLOUDFILM"),
        ("search Patient", "110112", "99CLOUDFILM"),
        ("rotate Key", "110100", "99CLOUDFILM"),
    ],
)
def test_what_was_done_finds_its_event_and_type(action: str, event: str, event_type: str) -> None:
    said = audit_message(entry(action=action, outcome="refused", detail="no right"))[0]

    assert said[0].get("csd-code") == event
    assert event_type in (said[1].get("csd-code"), said[1].get("codeSystemName"))
    assert said.xpath("EventTypeCode[@codeSystemName='99CLOUDFILM']/@csd-code") == [action]
    assert said.findtext("EventOutcomeDescription") == "no right"


def test_codes_have_the_meanings_that_dicom_gave_them() -> None:
    every = (getattr(codes.DCM, name) for name in dir(codes.DCM))
    known = {each.value: each.meaning for each in every if isinstance(each, Code)}

    for _, *pair in EVENTS:
        for code in filter(None, pair):
            assert known[code[0]] == code[1]


@given(st.text(max_size=80), st.sampled_from(["done", "refused", "failed"]))
def test_no_text_breaks_out_of_a_syslog_message(said: str, outcome: str) -> None:
    values: dict[str, Any] = dict.fromkeys(COLUMNS, said) | {"seq": 1, "at": AT, "outcome": outcome}
    message = syslog_message(AuditEntry(**values))

    header, _, xml = message.partition("\ufeff")
    assert header.startswith(f"<{85 if outcome == 'done' else 84}>1 2026-03-01T08:30:00.000Z ")
    assert header.endswith(" cloudfilm - DICOM+RFC3881 - ")
    assert not {"\n", "\r"} & set(message)
    assert SCHEMA.validate(etree.fromstring(xml)), SCHEMA.error_log
