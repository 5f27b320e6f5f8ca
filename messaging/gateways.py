"""The site document `gateways`: through whom messages go out, in which order, with secrets sealed.

    {"sms": [{"name": "main", "kind": "aliyun", "access_key_id": "...", "access_key_secret": "...",
              "sign_name": "某某医院", "templates": {"sign-in-code": "SMS_1234"}},
             {"name": "spare", "kind": "tencent", "secret_id": "...", "secret_key": "...",
              "sdk_app_id": "1400", "sign_name": "某某医院",
              "templates": {"sign-in-code": {"id": "5678", "values": ["code", "minutes"]}}}],
     "email": {"host": "mail.example.org", "port": 587, "from": "film@example.org"},
     "wechat": {"app_id": "wx...", "app_secret": "..."}, "webhook": {"url": "https://...", "secret": "..."}}

Without an SMS gateway messages are printed where the server runs. A secret in the document is sealed by the
key ring of this host before it is kept, and never shown again.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.orm import Session

from access.caller import Caller
from access.document_kind import DocumentKind, current_document
from access.site_documents import put_document
from kernel.crypto import KeyRing
from kernel.errors import CloudfilmError, Kind
from messaging.room import Messaging

SECRETS = frozenset({"access_key_secret", "secret_key", "secret", "password", "app_secret"})


class InvalidGateways(CloudfilmError):
    """A document that cannot be read; says where and why."""

    kind = Kind.UNPROCESSABLE


@dataclass(frozen=True, slots=True)
class Shape:
    """What a gateway of one kind takes."""

    required: frozenset[str]
    optional: frozenset[str] = frozenset()


COMMON = frozenset({"name", "kind", "endpoint", "templates"})
SHAPES = {  # by kind of SMS gateway
    "aliyun": Shape(frozenset({"access_key_id", "access_key_secret", "sign_name"})),
    "tencent": Shape(
        frozenset({"secret_id", "secret_key", "sdk_app_id", "sign_name"}), frozenset({"region"})
    ),
    "http": Shape(frozenset({"url"}), frozenset({"headers", "body", "secret", "form", "expect"})),
    "console": Shape(frozenset()),
}
SINGLE = {  # the other channels, one of each
    "email": Shape(frozenset({"host", "from"}), frozenset({"port", "user", "password", "security"})),
    "wechat": Shape(
        frozenset({"app_id", "app_secret"}), frozenset({"templates", "files", "endpoint", "authorize"})
    ),
    "webhook": Shape(frozenset({"url", "secret"})),
    "push": Shape(frozenset({"contact"})),
}


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway; its secrets are open."""

    name: str
    kind: str
    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def get(self, name: str, default: Any = "") -> Any:
        """A value that need not be there."""
        return self.values.get(name, default)


@dataclass(frozen=True, slots=True)
class Gateways:
    """All gateways of a site: SMS in the order in which they are tried."""

    sms: tuple[Gateway, ...] = (Gateway("console", "console", {}),)
    others: Mapping[str, Gateway] = field(default_factory=dict)


def check_gateways(document: str) -> None:
    """Raise InvalidGateways for a document that cannot be used, or that holds a secret in the clear."""
    parsed = _parse(document)
    for where, entry in _entries(parsed):
        for name in SECRETS & set(entry):
            if not (isinstance(entry[name], dict) and set(entry[name]) == {"sealed"}):
                raise InvalidGateways(
                    f"{where}: {name} would be kept in the clear; "
                    "write the document with `cloudfilm message gateways`, which seals it."
                )


GATEWAYS = DocumentKind(
    "gateways",
    "SMS, e-mail, WeChat and app gateways, and the templates registered with them.",
    check_gateways,
)


def _parse(document: str) -> dict[str, Any]:
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError):
        raise InvalidGateways("It is not JSON.") from None
    if not isinstance(parsed, dict) or set(parsed) - {"sms", *SINGLE}:
        raise InvalidGateways(f"Write an object with sms and any of {', '.join(sorted(SINGLE))}.")
    if not isinstance(parsed.get("sms", []), list):
        raise InvalidGateways("sms is a list of gateways, in the order in which they are tried.")
    names = [entry.get("name") for entry in parsed.get("sms", []) if isinstance(entry, dict)]
    if len(set(names)) != len(names) or not all(names):
        raise InvalidGateways("Each SMS gateway has a name of its own.")
    for where, entry in _entries(parsed):
        _check_entry(where, entry, SHAPES if where.startswith("sms") else SINGLE)
    return parsed


def _entries(parsed: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every gateway with where it stands."""
    listed = [(f"sms[{at}]", entry) for at, entry in enumerate(parsed.get("sms", []))]
    return listed + [(name, parsed[name]) for name in SINGLE if name in parsed]


def _check_entry(where: str, entry: Any, shapes: Mapping[str, Shape]) -> None:
    if not isinstance(entry, dict):
        raise InvalidGateways(f"{where}: it is an object.")
    shape = shapes.get(entry.get("kind", "") if shapes is SHAPES else where)
    if shape is None:
        raise InvalidGateways(f"{where}: kind is one of {', '.join(SHAPES)}.")
    known = shape.required | shape.optional | (COMMON if shapes is SHAPES else frozenset())
    missing, unknown = shape.required - set(entry), set(entry) - known
    if missing or unknown:
        raise InvalidGateways(f"{where}: {', '.join(sorted(missing or unknown))} "
                              f"{'is missing' if missing else 'is not known'}.")  # fmt: skip
    for name in ("url", "endpoint", "authorize"):
        if name in entry and urlsplit(str(entry[name])).scheme not in ("https", "http"):
            raise InvalidGateways(f"{where}: {name} is an address that begins with https://.")


def put_gateways(messaging: Messaging, caller: Caller, document: str, comment: str = "") -> int:
    """Seal the document's secrets and put it in force. Raises Forbidden or InvalidGateways."""
    parsed = _parse(document)
    for _, entry in _entries(parsed):
        for name in SECRETS & set(entry):
            if isinstance(entry[name], str):
                entry[name] = {"sealed": _sealed(messaging.keys, entry[name])}
    text = json.dumps(parsed, ensure_ascii=False, indent=2)
    return put_document(messaging.access, caller, GATEWAYS, text, comment)


def _sealed(keys: KeyRing, secret: str) -> str:
    return base64.b64encode(keys.seal_bytes(secret.encode(), "gateway")).decode()


def gateways_of(messaging: Messaging, session: Session) -> Gateways:
    """The gateways in force, secrets open. Raises DamagedBlob for secrets that another host sealed."""
    parsed = json.loads(current_document(session, GATEWAYS))
    sms = tuple(_opened(messaging.keys, entry, entry["kind"]) for entry in parsed.get("sms", []))
    others = {name: _opened(messaging.keys, parsed[name], name) for name in SINGLE if name in parsed}
    return Gateways(sms or Gateways().sms, others)


def _opened(keys: KeyRing, entry: dict[str, Any], kind: str) -> Gateway:
    values = dict(entry)
    for name in SECRETS & set(entry):
        values[name] = keys.open_bytes(base64.b64decode(entry[name]["sealed"]), "gateway").decode()
    return Gateway(str(entry.get("name", kind)), kind, values)
