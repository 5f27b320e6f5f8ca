"""Documents as JSON text that keeps what the client wrote: decimals with their zeros, the order of keys.

Only `id`, `meta.versionId` and `meta.lastUpdated` are ours to write (R4 3.1.0.5).
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kernel.errors import CloudfilmError, Kind


class InvalidDocument(CloudfilmError):
    """A body that is no FHIR resource."""

    kind = Kind.INVALID

    def __init__(self, reason: str) -> None:
        super().__init__(f"The resource cannot be read: {reason}.")


@dataclass(frozen=True, slots=True)
class Written:
    """A number as it was written, so that 1.50 stays 1.50 (R4 2.24.0.1, decimal)."""

    text: str


class _Encoder(json.JSONEncoder):
    """Knows `Written` numbers by a mark that no JSON text holds."""

    def default(self, value: Any) -> Any:
        if isinstance(value, Written):
            return f"\x00{value.text}\x00"
        return super().default(value)


MOST_DEPTH = 64


def parse_document(text: bytes | str) -> dict[str, Any]:
    """Read a resource. Decimals become `Written`. Raises InvalidDocument."""
    parsed = parse_json(text)
    if not isinstance(parsed, dict) or not isinstance(parsed.get("resourceType"), str):
        raise InvalidDocument("it has no resourceType")
    return parsed


def parse_json(text: bytes | str) -> Any:
    """Read JSON that keeps numbers as they are written. Raises InvalidDocument.

    What no database and no other system could hold is refused here: a NUL, half of a surrogate pair.
    """
    try:
        parsed = json.loads(
            text, parse_float=Written, parse_int=_integer, parse_constant=_no_constant,
            object_pairs_hook=_unique,
        )  # fmt: skip
    except (ValueError, RecursionError, UnicodeDecodeError):
        raise InvalidDocument("it is not JSON") from None
    _examine(parsed, 0)
    return parsed


def _integer(text: str) -> Any:
    return Written(text) if text == "-0" or len(text) > 18 else int(text)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _examine(value: Any, depth: int) -> None:
    if depth > MOST_DEPTH:
        raise InvalidDocument("it is nested too deeply")
    if isinstance(value, str):
        if not value.isascii() or "\x00" in value:
            _examine_text(value)
    elif isinstance(value, dict):
        for key, each in value.items():
            if not key.isascii() or "\x00" in key:
                _examine_text(key)
            if not isinstance(each, int):
                _examine(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            _examine(each, depth + 1)


def _examine_text(text: str) -> None:
    if "\x00" in text or any("\ud800" <= each <= "\udfff" for each in text):
        raise InvalidDocument("a text holds a character that is none")


def document_text(document: dict[str, Any]) -> str:
    """A document as JSON text, `Written` numbers as they were."""
    text = json.dumps(document, cls=_Encoder, ensure_ascii=False, separators=(",", ":"))
    return text.replace('"\\u0000', "").replace('\\u0000"', "")


def with_meta(
    document: dict[str, Any], logical_id: str, version: int, updated_at: datetime
) -> dict[str, Any]:
    """The document with the id and version that it has here; what else stands in `meta` is the client's."""
    meta = document.get("meta")
    meta = dict(meta) if isinstance(meta, dict) else {}
    meta["versionId"] = str(version)
    meta["lastUpdated"] = instant(updated_at)
    head = {"resourceType": document["resourceType"], "id": logical_id, "meta": meta}
    return head | {key: value for key, value in document.items() if key not in head}


def instant(at: datetime) -> str:
    """A FHIR instant in UTC with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def pretty_text(document: dict[str, Any]) -> str:
    """A document as JSON text for people."""
    text = json.dumps(document, cls=_Encoder, ensure_ascii=False, indent=2)
    return text.replace('"\\u0000', "").replace('\\u0000"', "")


def plain(value: Any) -> Any:
    """The same with `Written` numbers as plain floats, for indexing and evaluation."""
    if isinstance(value, Written):
        return value.text
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value
