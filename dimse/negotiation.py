"""Negotiation: who may associate, and what is accepted of a proposal (PS3.8 7.1.1 and 9.3.4, PS3.7 D.3).

Pure but for the one look-up of the node. A refusal is an A-ASSOCIATE-RJ with the result, source and reason
that the standard has for it; a presentation context that we do not serve is answered, not a reason to refuse.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dimse.associate import (
    APPLICATION_CONTEXT,
    AnsweredContext,
    AssociateAccept,
    AssociateRequest,
    ContextResult,
    ProposedContext,
    Role,
    UserInformation,
)
from dimse.association import Context
from dimse.service import Service

PERMANENT, TRANSIENT = 1, 2
BY_USER, BY_ACSE, BY_PRESENTATION = 1, 2, 3


class Rejection(Exception):
    """An association is refused (PS3.8 table 9-21)."""

    def __init__(self, why: str, result: int, source: int, reason: int) -> None:
        super().__init__(why)
        self.why = why
        self.result = result
        self.source = source
        self.reason = reason


def unsupported_protocol() -> Rejection:
    """A protocol version other than 1."""
    return Rejection("protocol version not supported", PERMANENT, BY_ACSE, 2)


def unsupported_application_context() -> Rejection:
    """An application context other than DICOM's."""
    return Rejection("application context not supported", PERMANENT, BY_USER, 2)


def unknown_calling() -> Rejection:
    """The calling AE title is not a known node's, or does not call from there."""
    return Rejection("calling AE title not recognized", PERMANENT, BY_USER, 3)


def refused_certificate(reason: str) -> Rejection:
    """The peer's certificate was revoked, or nobody can tell; what it is shown says no reason."""
    return Rejection(f"certificate: {reason}", PERMANENT, BY_USER, 1)


def unknown_called() -> Rejection:
    """The called AE title is not ours."""
    return Rejection("called AE title not recognized", PERMANENT, BY_USER, 7)


def too_many() -> Rejection:
    """More associations than the server or the node may have at once."""
    return Rejection("too many associations", TRANSIENT, BY_PRESENTATION, 2)


def congested() -> Rejection:
    """Something that is needed does not answer at present."""
    return Rejection("temporary congestion", TRANSIENT, BY_PRESENTATION, 1)


REJECTIONS = (
    unsupported_protocol,
    unsupported_application_context,
    unknown_calling,
    unknown_called,
    too_many,
    congested,
)
"""Every one that there is; the conformance statement reads this."""


def check_request(request: AssociateRequest, ae_title: str) -> None:
    """Refuse what is not for us. Raises Rejection."""
    if not request.protocol_version & 1:
        raise unsupported_protocol()
    if request.application_context != APPLICATION_CONTEXT:
        raise unsupported_application_context()
    if request.called != ae_title:
        raise unknown_called()


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What both sides agreed to, and the answer that says so."""

    accept: AssociateAccept
    contexts: Mapping[int, Context]


def negotiate(
    request: AssociateRequest,
    services: Mapping[str, Service],
    max_pdu_bytes: int,
    preferred: tuple[str, ...] = (),
) -> Negotiated:
    """Answer a proposal.

    services: by SOP class. preferred: transfer syntaxes in the node's order of preference; otherwise the
    order of the proposal counts, for what a modality names first is what it has.
    """
    roles = {role.sop_class: role for role in request.user.roles}
    answered: list[AnsweredContext] = []
    contexts: dict[int, Context] = {}
    for proposed in request.contexts:
        service = services.get(proposed.abstract_syntax)
        role = roles.get(proposed.abstract_syntax)
        answer = _answer(proposed, service, preferred)
        answered.append(answer)
        if answer.result == ContextResult.ACCEPTED and service is not None:
            contexts[proposed.id] = Context(
                proposed.id,
                proposed.abstract_syntax,
                answer.transfer_syntax,
                as_scp=role is None or role.scu,
                as_scu=role is not None and role.scp and service.roles_reversed,
            )
    user = UserInformation(
        max_pdu_bytes=max_pdu_bytes,
        asynchronous_window=None if request.user.asynchronous_window is None else (1, 1),
        roles=tuple(_granted(role, services) for role in request.user.roles if role.sop_class in services),
        extended={
            uid: services[uid].extended
            if services[uid].extended_is_told
            else _agreed(proposal, services[uid].extended)
            for uid, proposal in request.user.extended.items()
            if uid in services and services[uid].extended
        },
        identity_response=b"" if request.user.identity and request.user.identity.wants_response else None,
    )
    accept = AssociateAccept(request.called, request.calling, tuple(answered), user)
    return Negotiated(accept, contexts)


def _answer(
    proposed: ProposedContext, service: Service | None, preferred: tuple[str, ...]
) -> AnsweredContext:
    if service is None:
        return _refused(proposed, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED)
    if not proposed.id % 2:
        return _refused(proposed, ContextResult.NO_REASON)
    for syntax in _in_order(proposed.transfer_syntaxes, preferred):
        if syntax in service.transfer_syntaxes:
            return AnsweredContext(proposed.id, ContextResult.ACCEPTED, syntax)
    return _refused(proposed, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED)


def _refused(proposed: ProposedContext, result: ContextResult) -> AnsweredContext:
    first = proposed.transfer_syntaxes[0] if proposed.transfer_syntaxes else ""
    return AnsweredContext(proposed.id, result, first)


def _in_order(proposed: tuple[str, ...], preferred: tuple[str, ...]) -> Iterable[str]:
    return (*(syntax for syntax in preferred if syntax in proposed), *proposed)


def _granted(role: Role, services: Mapping[str, Service]) -> Role:
    return Role(role.sop_class, role.scu, role.scp and services[role.sop_class].roles_reversed)


def _agreed(proposed: bytes, ours: bytes) -> bytes:
    """Byte by byte what both can do; what was not asked for is not answered (PS3.4 C.5.1.1)."""
    return bytes(min(wanted, can) for wanted, can in zip(proposed, ours, strict=False))
