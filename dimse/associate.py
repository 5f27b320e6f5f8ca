"""A-ASSOCIATE PDUs to bytes and back: what is proposed, accepted and rejected (PS3.8 9.3.2 to 9.3.4,
PS3.7 D.3).

Only the form is here; what is accepted is decided in `dimse.negotiation`. Reading is forgiving where
devices are
sloppy (unknown items are passed over, texts may be padded with spaces or zeros) and strict about lengths.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from dimse.upper_layer import PDU_HEADER, PduType, ProtocolViolation

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLEMENTATION_CLASS_UID = "2.25.241486565479962623317280514970518189895"  # of cloudfilm (PS3.7 D.3.3.2)
IMPLEMENTATION_VERSION_NAME = "CLOUDFILM_1"

FIXED = struct.Struct(">HH16s16s32s")  # protocol version, reserved, called, calling, reserved
ITEM = struct.Struct(">BxH")

PROTOCOL_VERSION = 1


class Item(IntEnum):
    """Types of items and sub-items."""

    APPLICATION_CONTEXT = 0x10
    PROPOSED_CONTEXT = 0x20
    ACCEPTED_CONTEXT = 0x21
    ABSTRACT_SYNTAX = 0x30
    TRANSFER_SYNTAX = 0x40
    USER_INFORMATION = 0x50
    MAXIMUM_LENGTH = 0x51
    IMPLEMENTATION_CLASS = 0x52
    ASYNCHRONOUS_WINDOW = 0x53
    ROLE_SELECTION = 0x54
    IMPLEMENTATION_VERSION = 0x55
    EXTENDED_NEGOTIATION = 0x56
    USER_IDENTITY = 0x58
    USER_IDENTITY_RESPONSE = 0x59


class ContextResult(IntEnum):
    """What became of a presentation context (PS3.8 table 9-18)."""

    ACCEPTED = 0
    NO_REASON = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context as the requestor proposes it."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """The acceptor's answer to one."""

    id: int
    result: int
    transfer_syntax: str  # without meaning unless accepted


@dataclass(frozen=True, slots=True)
class Role:
    """SCP/SCU role selection for a SOP class (PS3.7 D.3.3.4): the roles of the requestor."""

    sop_class: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """Who uses the requestor (PS3.7 D.3.3.7). Type 1 user name, 2 with passcode, 3 Kerberos, 4 SAML, 5
    JWT."""

    type: int
    wants_response: bool
    primary: bytes
    secondary: bytes = b""


@dataclass(frozen=True, slots=True)
class UserInformation:
    """What both sides tell about themselves."""

    max_pdu_bytes: int = 0  # 0: no limit
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME
    asynchronous_window: tuple[int, int] | None = None  # operations invoked, performed; 0 is no limit
    roles: tuple[Role, ...] = ()
    extended: Mapping[str, bytes] = field(default_factory=dict)  # SOP class -> application information
    identity: UserIdentity | None = None
    identity_response: bytes | None = None


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ."""

    called: str
    calling: str
    contexts: tuple[ProposedContext, ...]
    user: UserInformation
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class AssociateAccept:
    """A-ASSOCIATE-AC."""

    called: str
    calling: str
    contexts: tuple[AnsweredContext, ...]
    user: UserInformation


def encode_request(request: AssociateRequest) -> bytes:
    """The PDU."""
    contexts = b"".join(
        _item(
            Item.PROPOSED_CONTEXT,
            bytes((context.id, 0, 0, 0)),
            _text(Item.ABSTRACT_SYNTAX, context.abstract_syntax),
            *(_text(Item.TRANSFER_SYNTAX, uid) for uid in context.transfer_syntaxes),
        )
        for context in request.contexts
    )
    return _pdu(PduType.ASSOCIATE_RQ, request.called, request.calling, contexts, request.user)


def encode_accept(accept: AssociateAccept) -> bytes:
    """The PDU."""
    contexts = b"".join(
        _item(
            Item.ACCEPTED_CONTEXT,
            bytes((context.id, 0, context.result, 0)),
            _text(Item.TRANSFER_SYNTAX, context.transfer_syntax),
        )
        for context in accept.contexts
    )
    return _pdu(PduType.ASSOCIATE_AC, accept.called, accept.calling, contexts, accept.user)


def encode_reject(result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
    return PDU_HEADER.pack(PduType.ASSOCIATE_RJ, 4) + bytes((0, result, source, reason))


def encode_abort(source: int, reason: int) -> bytes:
    """An A-ABORT. source: 0 the service user, 2 the service provider."""
    return PDU_HEADER.pack(PduType.ABORT, 4) + bytes((0, 0, source, reason))


def decode_request(body: memoryview) -> AssociateRequest:
    """Read what follows the header of an A-ASSOCIATE-RQ. Raises ProtocolViolation."""
    version, called, calling = _fixed(body)
    contexts: list[ProposedContext] = []
    application_context, user = "", UserInformation()
    for kind, data in _items(body[FIXED.size :]):
        if kind == Item.PROPOSED_CONTEXT:
            contexts.append(_proposed(data))
        elif kind == Item.APPLICATION_CONTEXT:
            application_context = _decode_text(data)
        elif kind == Item.USER_INFORMATION:
            user = _user(data)
    return AssociateRequest(called, calling, tuple(contexts), user, application_context, version)


def decode_accept(body: memoryview) -> AssociateAccept:
    """Read what follows the header of an A-ASSOCIATE-AC. Raises ProtocolViolation."""
    _, called, calling = _fixed(body)
    contexts: list[AnsweredContext] = []
    user = UserInformation()
    for kind, data in _items(body[FIXED.size :]):
        if kind == Item.ACCEPTED_CONTEXT:
            _require(data, 4)
            syntaxes = [_decode_text(text) for sub, text in _items(data[4:]) if sub == Item.TRANSFER_SYNTAX]
            contexts.append(AnsweredContext(data[0], data[2], syntaxes[0] if syntaxes else ""))
        elif kind == Item.USER_INFORMATION:
            user = _user(data)
    return AssociateAccept(called, calling, tuple(contexts), user)


def _pdu(kind: PduType, called: str, calling: str, contexts: bytes, user: UserInformation) -> bytes:
    body = (
        FIXED.pack(PROTOCOL_VERSION, 0, _title(called), _title(calling), b"")
        + _text(Item.APPLICATION_CONTEXT, APPLICATION_CONTEXT)
        + contexts
        + _encode_user(user)
    )
    return PDU_HEADER.pack(kind, len(body)) + body


def _title(ae_title: str) -> bytes:
    return ae_title.encode("ascii", "replace")[:16].ljust(16)


def _item(kind: Item, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return ITEM.pack(kind, len(data)) + data


def _text(kind: Item, text: str) -> bytes:
    return _item(kind, text.encode("ascii", "replace"))


def _prefixed(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def _encode_user(user: UserInformation) -> bytes:
    parts = [
        _item(Item.MAXIMUM_LENGTH, struct.pack(">I", user.max_pdu_bytes)),
        _text(Item.IMPLEMENTATION_CLASS, user.implementation_class_uid),
    ]
    if user.asynchronous_window is not None:
        parts.append(_item(Item.ASYNCHRONOUS_WINDOW, struct.pack(">HH", *user.asynchronous_window)))
    parts.extend(
        _item(Item.ROLE_SELECTION, _prefixed(role.sop_class.encode()), bytes((role.scu, role.scp)))
        for role in user.roles
    )
    parts.append(_text(Item.IMPLEMENTATION_VERSION, user.implementation_version_name))
    parts.extend(
        _item(Item.EXTENDED_NEGOTIATION, _prefixed(uid.encode()), information)
        for uid, information in user.extended.items()
    )
    if user.identity is not None:
        identity = user.identity
        parts.append(
            _item(
                Item.USER_IDENTITY,
                bytes((identity.type, identity.wants_response)),
                _prefixed(identity.primary),
                _prefixed(identity.secondary),
            )
        )
    if user.identity_response is not None:
        parts.append(_item(Item.USER_IDENTITY_RESPONSE, _prefixed(user.identity_response)))
    return _item(Item.USER_INFORMATION, *parts)


def _require(data: memoryview, length: int) -> None:
    if len(data) < length:
        raise ProtocolViolation("sent an association item that is cut off")


def _fixed(body: memoryview) -> tuple[int, str, str]:
    _require(body, FIXED.size)
    version, _, called, calling, _ = FIXED.unpack_from(body)
    return version, _decode_text(called), _decode_text(calling)


def _items(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at < len(data):
        _require(data[at:], ITEM.size)
        kind, length = ITEM.unpack_from(data, at)
        at += ITEM.size
        _require(data[at:], length)
        yield kind, data[at : at + length]
        at += length


def _decode_text(data: memoryview | bytes) -> str:
    return bytes(data).decode("ascii", "replace").strip(" \0")


def _proposed(data: memoryview) -> ProposedContext:
    _require(data, 4)
    abstract_syntax, transfer_syntaxes = "", []
    for kind, text in _items(data[4:]):
        if kind == Item.ABSTRACT_SYNTAX:
            abstract_syntax = _decode_text(text)
        elif kind == Item.TRANSFER_SYNTAX:
            transfer_syntaxes.append(_decode_text(text))
    return ProposedContext(data[0], abstract_syntax, tuple(transfer_syntaxes))


def _split(data: memoryview) -> tuple[memoryview, memoryview]:
    """What a two-byte length says, and the rest."""
    _require(data, 2)
    end = 2 + int(struct.unpack_from(">H", data)[0])
    _require(data, end)
    return data[2:end], data[end:]


def _user(data: memoryview) -> UserInformation:
    found: dict[int, memoryview] = {}
    roles: list[Role] = []
    extended: dict[str, bytes] = {}
    for kind, value in _items(data):
        if kind == Item.ROLE_SELECTION:
            uid, rest = _split(value)
            _require(rest, 2)
            roles.append(Role(_decode_text(uid), bool(rest[0]), bool(rest[1])))
        elif kind == Item.EXTENDED_NEGOTIATION:
            uid, rest = _split(value)
            extended[_decode_text(uid)] = bytes(rest)
        else:
            found[kind] = value
    empty = memoryview(b"")
    response = found.get(Item.USER_IDENTITY_RESPONSE)
    return UserInformation(
        max_pdu_bytes=_number(">I", found.get(Item.MAXIMUM_LENGTH, memoryview(bytes(4))))[0],
        implementation_class_uid=_decode_text(found.get(Item.IMPLEMENTATION_CLASS, empty)),
        implementation_version_name=_decode_text(found.get(Item.IMPLEMENTATION_VERSION, empty)),
        asynchronous_window=_window(found.get(Item.ASYNCHRONOUS_WINDOW)),
        roles=tuple(roles),
        extended=extended,
        identity=_identity(found.get(Item.USER_IDENTITY)),
        identity_response=None if response is None else bytes(_split(response)[0]),
    )


def _number(form: str, data: memoryview) -> tuple[int, ...]:
    _require(data, struct.calcsize(form))
    return struct.unpack_from(form, data)


def _window(data: memoryview | None) -> tuple[int, int] | None:
    if data is None:
        return None
    invoked, performed = _number(">HH", data)
    return invoked, performed


def _identity(data: memoryview | None) -> UserIdentity | None:
    if data is None:
        return None
    _require(data, 2)
    primary, rest = _split(data[2:])
    secondary = _split(rest)[0] if rest else memoryview(b"")
    return UserIdentity(data[0], bool(data[1]), bytes(primary), bytes(secondary))
