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
    try:
        parsed = json.loads(text, parse_float=Written, parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError, UnicodeDecodeError):
        raise InvalidDocument("it is not JSON") from None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("resourceType"), str):
        raise InvalidDocument("it has no resourceType")
    if _depth(parsed) > MOST_DEPTH:
        raise InvalidDocument("it is nested too deeply")
    return parsed


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _depth(value: Any, at: int = 0) -> int:
    if at > MOST_DEPTH:
        return at
    if isinstance(value, dict):
        return max((_depth(each, at + 1) for each in value.values()), default=at)
    if isinstance(value, list):
        return max((_depth(each, at + 1) for each in value), default=at)
    return at


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


def plain(value: Any) -> Any:
    """The same with `Written` numbers as plain floats, for indexing and evaluation."""
    if isinstance(value, Written):
        return value.text
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value
