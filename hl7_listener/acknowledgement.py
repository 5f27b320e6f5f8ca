"""Acknowledgements: MSA and ERR in original and enhanced mode (chapter 2.9; 2.15.5, 2.15.8)."""

import secrets
from dataclasses import dataclass
from datetime import datetime

from hl7_listener.er7 import Message, escape, segment, write
from kernel.errors import Kind

ACCEPTED, ERROR, REJECTED = "A", "E", "R"  # second letter of MSA-1

CODES = {  # Kind -> (how it is answered, HL7 table 0357); what is not named is an internal error
    Kind.INVALID: (REJECTED, "102"),
    Kind.UNAUTHENTICATED: (REJECTED, "207"),
    Kind.FORBIDDEN: (ERROR, "207"),
    Kind.NOT_FOUND: (ERROR, "204"),
    Kind.CONFLICT: (ERROR, "205"),
    Kind.UNSUPPORTED: (REJECTED, "200"),
    Kind.UNPROCESSABLE: (ERROR, "101"),
    Kind.TOO_LARGE: (REJECTED, "102"),
    Kind.UNAVAILABLE: (REJECTED, "206"),
    Kind.EXHAUSTED: (REJECTED, "207"),
}
TEXTS = {  # HL7 table 0357
    "0": "Message accepted", "100": "Segment sequence error", "101": "Required field missing",
    "102": "Data type error", "103": "Table value not found", "200": "Unsupported message type",
    "201": "Unsupported event code", "202": "Unsupported processing id", "203": "Unsupported version id",
    "204": "Unknown key identifier", "205": "Duplicate key identifier", "206": "Application record locked",
    "207": "Application internal error",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message is not accepted."""

    letter: str  # ERROR or REJECTED
    code: str  # table 0357
    location: str  # SEG or SEG-n or SEG-n.m
    reason: str


@dataclass(frozen=True, slots=True)
class Header:
    """What an answer takes from the message it answers; empty where that could not be read."""

    application: str = ""  # MSH-3
    facility: str = ""  # MSH-4
    receiving_application: str = ""
    receiving_facility: str = ""
    event: str = ""
    control_id: str = ""
    processing_id: str = "P"
    version: str = "2.5.1"
    character_set: str = ""  # MSH-18
    charset: str = "utf-8"  # how that is written
    accept: str = ""  # MSH-15
    application_accept: str = ""  # MSH-16

    @property
    def is_enhanced(self) -> bool:
        """Enhanced mode: MSH-15 or MSH-16 is valued (2.9.3)."""
        return bool(self.accept or self.application_accept)


def header_of(message: Message) -> Header:
    """From a message that was read."""
    msh = message.msh
    return Header(
        msh.raw(3), msh.raw(4), msh.raw(5), msh.raw(6), message.trigger_event, message.control_id,
        msh.get(11) or "P", msh.get(12) or "2.5.1", msh.raw(18), message.charset,
        msh.get(15).upper(), msh.get(16).upper(),
    )  # fmt: skip


def is_wanted(condition: str, refusal: Refusal | None) -> bool:
    """Whether MSH-15 or MSH-16 asks for an answer with this outcome (HL7 table 0155)."""
    return {"AL": True, "ER": refusal is not None, "SU": refusal is None}.get(condition, False)


def acknowledge(
    header: Header,
    at: datetime,
    refusal: Refusal | None,
    *,
    mode: str = "A",
    reply: tuple[str, ...] = (),
    reply_type: str = "",
    expected: int | None = None,
) -> bytes:
    """The bytes of an answer. mode: A application, C accept (enhanced mode). expected: MSA-4."""
    letter = refusal.letter if refusal else ACCEPTED
    message_type = reply_type if reply_type and not refusal else f"ACK^{header.event}^ACK".replace("^^", "^")
    msh = segment(
        "MSH", "^~\\&", header.receiving_application, header.receiving_facility, header.application,
        header.facility, f"{at:%Y%m%d%H%M%S}+0000", "", message_type, secrets.token_hex(10),
        header.processing_id, header.version, "", "", "", "", "", header.character_set,
    )  # fmt: skip
    text = "" if refusal is None or _has_err(header) else escape(refusal.reason)
    segments = [msh, _msa(f"{mode}{letter}", header, text, expected)]
    if refusal is not None:
        segments.append(_err(header, refusal))
    return write([*segments, *(reply if refusal is None else ())], header.charset)


def _msa(code: str, header: Header, text: str, expected: int | None) -> str:
    return segment("MSA", code, escape(header.control_id), text, "" if expected is None else str(expected))


def _has_err(header: Header) -> bool:
    """ERR-3 to ERR-8 came with version 2.5."""
    return header.version[:3] >= "2.5"


def _err(header: Header, refusal: Refusal) -> str:
    name, _, field = refusal.location.partition("-")
    number, _, component = field.partition(".")
    coded = f"{refusal.code}^{TEXTS[refusal.code]}^HL70357"
    if not _has_err(header):
        return segment("ERR", "^".join((name, "1", number, coded.replace("^", "&"))))
    place = "^".join(part for part in (name, "1", number, "1" if component else "", component) if part)
    return segment("ERR", "", place, coded, "E", "", "", "", escape(refusal.reason))
