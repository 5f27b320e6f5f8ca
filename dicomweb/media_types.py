"""Media types and their negotiation (RFC 9110 12.5.1, PS3.18 8.7): lenient in reading, exact in answering."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from kernel.errors import CloudfilmError, Kind

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
OCTETS = "application/octet-stream"
MULTIPART = "multipart/related"

PARAMETER = re.compile(r'\s*;\s*([!#$%&\'*+.^_`|~\w-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;,\s]*)|\s*;')
TYPE = re.compile(r"\s*([\w!#$&^.+*-]+)/([\w!#$&^.+*-]+)")
MOST = 100  # media ranges in one Accept header


class NotAcceptable(CloudfilmError):
    """None of the media types asked for can be given (PS3.18 8.7.4)."""

    kind = Kind.NOT_ACCEPTABLE

    def __init__(self, offered: Iterable[str]) -> None:
        super().__init__(f"This can be had as: {', '.join(offered)}.")


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One alternative of an Accept header. Types and parameter names are in lower case."""

    type: str
    parameters: dict[str, str] = field(default_factory=dict)
    quality: float = 1.0

    def covers(self, media_type: str) -> bool:
        """Whether a media type falls into this range."""
        return self.type in ("*/*", media_type) or (
            self.type.endswith("/*") and media_type.startswith(self.type[:-1])
        )


def parse_accept(header: str) -> tuple[MediaRange, ...]:
    """Read an Accept header, best first; what cannot be read is passed over, as RFC 9110 lets us.

    Parameters may be quoted or not: `type="application/dicom"` and `type=application/dicom` are the same.
    """
    return _best_first(_ranges_of(header))


def _best_first(ranges: Iterable[MediaRange]) -> tuple[MediaRange, ...]:
    """Those that are accepted at all, by their quality."""
    return tuple(sorted((each for each in ranges if each.quality > 0), key=lambda each: -each.quality))


def _ranges_of(header: str) -> list[MediaRange]:
    ranges: list[MediaRange] = []
    at = 0
    while at < len(header) and len(ranges) < MOST:
        found = TYPE.match(header, at)
        if found is None:
            comma = header.find(",", at)
            at = len(header) if comma < 0 else comma + 1
            continue
        at = found.end()
        parameters: dict[str, str] = {}
        while (parameter := PARAMETER.match(header, at)) is not None:
            at = parameter.end()
            if parameter[1]:
                parameters[parameter[1].lower()] = _unquoted(parameter[2])
        ranges.append(
            MediaRange(f"{found[1]}/{found[2]}".lower(), parameters, _quality(parameters.pop("q", "1")))
        )
        comma = header.find(",", at)
        at = len(header) if comma < 0 else comma + 1
    return ranges


def _unquoted(text: str) -> str:
    if len(text) > 1 and text.startswith('"'):
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _quality(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 1.0


def accepted(header: str | None, parameter: str | None) -> tuple[MediaRange, ...]:
    """What a request accepts: the `accept` query parameter first (PS3.18 8.3.3.1), else the header, else
    all."""
    as_meant = re.sub(r"(?<=\w) (?=\w)", "+", parameter or "")  # a + that a client did not escape
    for text in (as_meant, header or ""):
        ranges = _ranges_of(text)
        if ranges:
            return _best_first(ranges)
    return (MediaRange("*/*"),)


def negotiate(ranges: Iterable[MediaRange], offered: tuple[str, ...]) -> str:
    """The offered media type that is liked best; of equals, the first offered. Raises NotAcceptable."""
    for range_ in ranges:
        for media_type in offered:
            if range_.covers(media_type):
                return media_type
    raise NotAcceptable(offered)


def negotiate_json(header: str | None, parameter: str | None) -> str:
    """The JSON media type for a search answer or metadata. Raises NotAcceptable."""
    return negotiate(accepted(header, parameter), (DICOM_JSON, "application/json"))


@dataclass(frozen=True, slots=True)
class Representation:
    """A form in which objects or frames are sent: whole or as parts, of which media type and transfer
    syntax."""

    multipart: bool
    media_type: str
    transfer_syntax: str = ""  # a UID, `*` for the stored one, or empty for the default of the media type


def representations(ranges: Iterable[MediaRange]) -> tuple[Representation, ...]:
    """What a request accepts, as forms (PS3.18 8.7.3.3): `multipart/related; type=...; transfer-syntax=...`.

    The transfer syntax of a range may come in its parameters or, as some clients do, inside `type`.
    """
    forms = []
    for range_ in ranges:
        if range_.type in (MULTIPART, "multipart/*"):
            inner = range_.parameters.get("type", "")
            inside = parse_accept(inner)
            media_type = inside[0].type if inside else "*/*"
            syntax = range_.parameters.get("transfer-syntax") or (
                inside[0].parameters.get("transfer-syntax", "") if inside else ""
            )
            forms.append(Representation(True, media_type, syntax))
        else:
            forms.append(Representation(False, range_.type, range_.parameters.get("transfer-syntax", "")))
    return tuple(forms)
