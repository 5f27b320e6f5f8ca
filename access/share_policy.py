"""The site document `sharing`: how long shares live, what they allow, and how many codes are sent.

    {"default": {"link_days": 7, "watermark": true},
     "institutions": {"A": {"link_days": 3, "download": true}},
     "limits": {"sms_a_day": 2000},
     "places": {"10.0.0.0/8": "院内"}}

What is left out is as below; an institution's own values stand over the default ones.
"""

import ipaddress
import json
from dataclasses import dataclass, fields, replace
from typing import Any

from access.document_kind import DocumentKind
from access.rates import Limit
from kernel.errors import CloudfilmError, Kind

BINDINGS = ("patient", "phone", "account", "wechat", "passcode", "bearer")


class InvalidSharePolicy(CloudfilmError):
    """A policy that cannot be read; says where and why."""

    kind = Kind.UNPROCESSABLE


@dataclass(frozen=True, slots=True)
class SharePolicy:
    """What an institution allows of its shares."""

    link_days: int = 7  # life of a link, unless its maker chooses another
    most_days: int = 90  # the longest that can be chosen
    paper_days: int = 365  # life of a code on a printed report
    most_uses: int = 0  # how often a link opens; 0: as often as one likes
    download: bool = False  # whether DICOM objects may be taken away
    watermark: bool = True  # on every image and report that a visitor sees
    visit_hours: int = 12  # how long a visitor stays let in
    opening_notice: bool = True  # the patient is told when a share is opened for the first time
    report_notice: bool = True  # the patient is told when a report is ready
    bindings: tuple[str, ...] = BINDINGS  # how a share may be bound to its recipient
    contact: str = ""  # whom a visitor turns to when a link has expired: a phone number, a desk


@dataclass(frozen=True, slots=True)
class CodeLimits:
    """How many codes are sent by SMS, and how many tries each has."""

    code_s: int = 300  # life of a code
    tries: int = 5  # wrong tries until a code is dead
    again_after_s: int = 60  # between two codes to one number
    phone_an_hour: int = 5
    phone_a_day: int = 10
    address_an_hour: int = 60  # from one network address; many phones may share one
    network_an_hour: int = 600  # from one /24 (IPv6: /56)
    share_an_hour: int = 20  # for one share
    sms_a_day: int = 5000  # of the whole site: what it is willing to pay for

    def of_phone(self) -> tuple[Limit, ...]:
        """The limits of one number."""
        return (
            Limit(1, self.again_after_s),
            Limit(self.phone_an_hour, 3600),
            Limit(self.phone_a_day, 86400),
        )


@dataclass(frozen=True, slots=True)
class Sharing:
    """The whole document."""

    default: SharePolicy = SharePolicy()
    institutions: tuple[tuple[str, SharePolicy], ...] = ()
    limits: CodeLimits = CodeLimits()
    places: tuple[tuple[str, str], ...] = ()  # networks and what people call them

    def place_of(self, address: str) -> str:
        """What people call the smallest network that an address is in; empty where nobody named it."""
        try:
            asked = ipaddress.ip_address(address)
        except ValueError:
            return ""
        networks = [(ipaddress.ip_network(network), name) for network, name in self.places]
        found = [(network.prefixlen, name) for network, name in networks if asked in network]
        return max(found)[1] if found else ""

    def of(self, institution: str) -> SharePolicy:
        """What holds for an institution."""
        return dict(self.institutions).get(institution, self.default)


def parse_sharing(document: str) -> Sharing:
    """Read a policy document. Raises InvalidSharePolicy."""
    try:
        parsed = json.loads(document)
        if not isinstance(parsed, dict) or set(parsed) - {"default", "institutions", "limits", "places"}:
            raise ValueError
        own = dict(parsed.get("institutions", {}))
        places = tuple(
            sorted((str(each), str(name)) for each, name in dict(parsed.get("places", {})).items())
        )
    except (ValueError, TypeError, RecursionError):
        raise InvalidSharePolicy(
            'Write {"default": {}, "institutions": {}, "limits": {}, "places": {}}.'
        ) from None
    for network, name in places:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise InvalidSharePolicy(f"places: {network[:40]} is no network, as 10.0.0.0/8 is one.") from None
        if not 1 <= len(name) <= 40:
            raise InvalidSharePolicy(f"places: the name of {network[:40]} has 1 to 40 characters.")
    default = _with(SharePolicy(), parsed.get("default", {}), "default")
    institutions = tuple((code, _with(default, values, code)) for code, values in sorted(own.items()))
    limits = _with(CodeLimits(), parsed.get("limits", {}), "limits")
    return Sharing(default, institutions, limits, places)


def _with(base: Any, values: Any, where: str) -> Any:
    """`base` with what is said instead, each value of its field's type."""
    known = {field.name for field in fields(base)}
    if not isinstance(values, dict) or set(values) - known:
        raise InvalidSharePolicy(f"{where}: it takes {', '.join(sorted(known))}.")
    said: dict[str, Any] = {}
    for name, value in values.items():
        present = getattr(base, name)
        said[name] = tuple(value) if isinstance(present, tuple) and isinstance(value, list) else value
        is_count = isinstance(present, int) and not isinstance(present, bool)
        wrong = type(said[name]) is not type(present) or (is_count and not 0 <= said[name] <= 10**9)
        if wrong or (name == "bindings" and not set(said[name]) <= set(BINDINGS)):
            raise InvalidSharePolicy(f"{where}: {name} cannot be {json.dumps(value)[:40]}.")
    made = replace(base, **said)
    if isinstance(made, SharePolicy) and not 1 <= made.link_days <= made.most_days:
        raise InvalidSharePolicy(f"{where}: link_days lies between 1 and most_days.")
    if isinstance(made, CodeLimits) and not (made.tries >= 1 and made.again_after_s >= 1):
        raise InvalidSharePolicy(f"{where}: tries and again_after_s are at least 1.")
    return made


SHARING = DocumentKind(
    "sharing",
    "How long shares live, what they allow, watermarks, and how many codes are sent.",
    parse_sharing,
    resource="Policy",
)
