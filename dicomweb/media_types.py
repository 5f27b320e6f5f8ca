"""Media types and their negotiation (RFC 9110 12.5.1, PS3.18 8.7): lenient in reading, exact in answering."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from kernel.errors import CloudfilmError, Kind

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
JSON = "application/json"
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
        return falls_into(media_type, self.type)


def falls_into(media_type: str, pattern: str) -> bool:
    """Whether a media type is one of `*/*`, `type/*` or `type/subtype`."""
    named = media_type.lower()
    return pattern in ("*/*", named) or (pattern.endswith("/*") and named.startswith(pattern[:-1]))


def parse_accept(header: str) -> tuple[MediaRange, ...]:
    """Read an Accept header, best first; what cannot be read is passed over, as RFC 9110 lets us.

    Parameters may be quoted or not: `type="application/dicom"` and `type=application/dicom` are the same.
    """
    return tuple(each for each in _best_first(_ranges_of(header)) if each.quality > 0)


def _best_first(ranges: Iterable[MediaRange]) -> tuple[MediaRange, ...]:
    return tuple(sorted(ranges, key=lambda each: -each.quality))


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
    all. What it refuses (`q=0`) stands at the end."""
    as_meant = re.sub(r"(?<=\w) (?=\w)", "+", parameter or "")  # a + that a client did not escape
    for text in (as_meant, header or ""):
        ranges = _ranges_of(text)
        if ranges:
            return _best_first(ranges)
    return (MediaRange("*/*"),)


@dataclass(frozen=True, slots=True)
class Representation:
    """A form in which objects or frames are sent: whole or as parts, of which media type and transfer
    syntax. What a range of an Accept header says has wildcards in it."""

    multipart: bool
    media_type: str
    transfer_syntax: str = ""  # a UID, `*` for the stored one, or empty for the default of the media type
    but: tuple["Representation", ...] = ()  # narrower ranges of the same header, which are liked less

    def __str__(self) -> str:
        named = f'{MULTIPART}; type="{self.media_type}"' if self.multipart else self.media_type
        return f"{named}; transfer-syntax={self.transfer_syntax}" if self.transfer_syntax else named

    @property
    def ways(self) -> tuple[bool, ...]:
        """Whether it may be sent as parts: only `*/*` lets us choose, alone first."""
        return (False, True) if self.media_type == "*/*" and not self.multipart else (self.multipart,)

    def takes(self, multipart: bool, media_type: str, transfer_syntax: str = "") -> bool:
        """Whether this range lets a concrete form be sent: it covers it, and no narrower range, which goes
        before (RFC 9110 12.5.1), says less."""
        return self._covers(multipart, media_type, transfer_syntax) and not self.refuses(
            multipart, media_type, transfer_syntax
        )

    def refuses(self, multipart: bool, media_type: str, transfer_syntax: str = "") -> bool:
        """Whether a narrower range of the header likes a concrete form less, or not at all."""
        return any(each._covers(multipart, media_type, transfer_syntax) for each in self.but)

    def _covers(self, multipart: bool, media_type: str, transfer_syntax: str) -> bool:
        return (
            multipart in self.ways
            and falls_into(media_type, self.media_type)
            and self.transfer_syntax in ("", "*", transfer_syntax)
        )

    @property
    def narrowness(self) -> int:
        """How specific it is as a range: parts before all, a type before a wildcard, a parameter more."""
        named = sum(each != "*" for each in self.media_type.split("/"))
        return self.multipart + named + bool(self.transfer_syntax)


def representations(ranges: Iterable[MediaRange]) -> tuple[Representation, ...]:
    """What a request accepts, as forms (PS3.18 8.7.3.3): `multipart/related; type=...; transfer-syntax=...`.

    The transfer syntax of a range may come in its parameters or, as some clients do, inside `type`.
    """
    read = [(_form_of(each), each.quality) for each in ranges]
    return tuple(
        replace(
            form,
            but=tuple(other for other, less in read if less < quality and other.narrowness > form.narrowness),
        )
        for form, quality in read
        if quality > 0
    )


def _form_of(range_: MediaRange) -> Representation:
    if range_.type not in (MULTIPART, "multipart/*"):
        return Representation(False, range_.type, range_.parameters.get("transfer-syntax", ""))
    inside = parse_accept(range_.parameters.get("type", ""))[:1] or (MediaRange("*/*"),)
    syntax = range_.parameters.get("transfer-syntax") or inside[0].parameters.get("transfer-syntax", "")
    return Representation(True, inside[0].type, syntax)


def best(forms: Iterable[Representation], offered: tuple[Representation, ...]) -> Representation:
    """The offered form that is liked best; of equals, the first offered. Raises NotAcceptable."""
    for form in forms:
        for each in offered:
            if form.takes(each.multipart, each.media_type, each.transfer_syntax):
                return each
    raise NotAcceptable(map(str, offered))


def negotiate(forms: Iterable[Representation], offered: tuple[str, ...]) -> str:
    """The same of media types of single bodies."""
    return best(forms, tuple(Representation(False, media_type) for media_type in offered)).media_type
