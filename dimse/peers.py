"""Peers: associations that we open, and what we ask of other nodes over them.

Verification, Storage, Query and Retrieve as SCU, over plain TCP or TLS, to the first address of the node that
answers. C-MOVE's sub-operations, forwarding, migration and `cloudfilm node` all go through here.

Standards: PS3.7 D.3 (negotiation), PS3.4 annexes A, B, C; PS3.15 B (secure transport).
"""

import hashlib
import logging
import socket
import ssl
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from pydicom.dataset import Dataset
from pynetdicom.presentation import StoragePresentationContexts
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from access.audit import DONE, FAILED, note
from access.caller import EVERYTHING, Caller, Door, Principal, PrincipalKind, Reach
from access.nodes import NodePeer, find_node
from access.revocation_lists import CertificateRefused
from archive.retrieve import Selection, find_selected, survey
from dimse.associate import (
    AssociateRequest,
    ContextResult,
    ProposedContext,
    Role,
    UserInformation,
    decode_accept,
    encode_request,
)
from dimse.association import Association, Context, Message
from dimse.command import Operation, Value
from dimse.conversion import PLAIN
from dimse.identifier import encode_identifier, read_identifier
from dimse.sending import Counts, Outgoing, as_stored, choose_context, send_instance
from dimse.service import AskedService, Dimse, note_association, perform
from dimse.statuses import CANCELLED, PROCESSING_FAILURE, SOP_CLASS_NOT_SUPPORTED, SUCCESS, is_pending
from dimse.store import STORAGE_SOP_CLASSES, STORAGE_SYNTAXES, on_store
from dimse.upper_layer import AssociationEnded, BrokenOff, PduType, UpperLayer
from kernel.errors import CloudfilmError, Kind
from kernel.tls import client_context

log = logging.getLogger(__name__)

CONNECT_WITHIN_S = 10.0
ANSWER_WITHIN_S = 120.0  # a peer may have to fetch what it is asked for
MOST_CONTEXTS = 128  # PS3.8 9.3.2.2: odd numbers of one byte
FIND = str(StudyRootQueryRetrieveInformationModelFind)
MOVE = str(StudyRootQueryRetrieveInformationModelMove)
GET = str(StudyRootQueryRetrieveInformationModelGet)
COMMON_SOP_CLASSES = tuple(str(context.abstract_syntax) for context in StoragePresentationContexts)
"""As many as one association has room for, when it is not known what will come."""


class UnknownPeer(CloudfilmError):
    """No node has this AE title, or it has no address."""

    kind = Kind.NOT_FOUND

    def __init__(self, ae_title: str) -> None:
        super().__init__(f"{ae_title!r} is not a known node with an address: see cloudfilm node add --host.")


class PeerUnavailable(CloudfilmError):
    """The node does not answer, or ended the association."""

    kind = Kind.UNAVAILABLE

    def __init__(self, ae_title: str, how: str) -> None:
        super().__init__(f"The node {ae_title} cannot be reached: {how}.")


class PeerBusy(CloudfilmError):
    """As many associations to the node are open as it may be sent over at once."""

    kind = Kind.TOO_MANY

    def __init__(self, ae_title: str) -> None:
        super().__init__(f"Enough associations with {ae_title} are open already; later it may work.")


class PeerRejected(CloudfilmError):
    """The node refuses us, or all that we proposed."""

    kind = Kind.FORBIDDEN

    def __init__(self, ae_title: str, how: str) -> None:
        super().__init__(f"The node {ae_title} refuses the association: {how}.")


class PeerRefused(CloudfilmError):
    """The node answered with a status that is no success."""

    kind = Kind.UNPROCESSABLE

    def __init__(self, ae_title: str, status: int, comment: str = "") -> None:
        said = f", {comment}" if comment else ""
        super().__init__(f"The node {ae_title} answered with status {status:#06x}{said}.")
        self.status = status


REASONS = {  # (source, reason) of an A-ASSOCIATE-RJ (PS3.8 table 9-21)
    (1, 1): "no reason given",
    (1, 2): "application context not supported",
    (1, 3): "our AE title is not known there",
    (1, 7): "the AE title is not its own",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "its limit is reached",
}

Proposal = tuple[str, tuple[str, ...]]  # abstract syntax, transfer syntaxes


def known_peer(dimse: Dimse, ae_title: str) -> NodePeer:
    """The node of this AE title. Raises UnknownPeer."""
    node = find_node(dimse.access, ae_title)
    if node is None or not node.endpoints:
        raise UnknownPeer(ae_title)
    return node


def acting_for(node: NodePeer, task: str) -> Caller:
    """Who brings in what a node gave us: cloudfilm itself, for the institution and department of the node."""
    principal = Principal(
        PrincipalKind.SYSTEM, task, f"{task} {node.ae_title}", node.institution, node.department
    )
    return Caller(principal, Door.DIMSE, EVERYTHING, Reach.everywhere())


@contextmanager
def associated(
    dimse: Dimse,
    node: NodePeer,
    proposals: Sequence[Proposal],
    *,
    roles: Sequence[str] = (),
    extended: Mapping[str, bytes] | None = None,
    caller: Caller | None = None,
) -> Iterator[Association]:
    """An association until the block ends: released, or aborted when it raises. See `open_association`.

    An association that is lost within the block raises PeerUnavailable.
    """
    association = open_association(dimse, node, proposals, roles=roles, extended=extended, caller=caller)
    try:
        yield association
    except AssociationEnded as end:
        association.close()
        raise PeerUnavailable(node.ae_title, end.how) from end
    except BaseException:
        association.abort()
        raise
    else:
        association.release()


def open_association(
    dimse: Dimse,
    node: NodePeer,
    proposals: Sequence[Proposal],
    *,
    roles: Sequence[str] = (),
    extended: Mapping[str, bytes] | None = None,
    caller: Caller | None = None,
) -> Association:
    """An association with a node, to be ended by `release` or `abort`.

    proposals: up to 128 contexts. roles: SOP classes of which we are the SCP too, for what C-GET brings in,
    in the name of `caller`. Raises PeerUnavailable, PeerBusy or PeerRejected.
    """
    slot = dimse.slots.take(f"to {node.ae_title}", node.max_sending)
    if slot is None:
        raise PeerBusy(node.ae_title)
    try:
        association = _associate(dimse, node, proposals, roles, extended or {}, caller)
    except BaseException:
        slot.free()
        raise
    association.slot = slot
    association.when_closed = partial(note_association, dimse)
    return association


def _associate(
    dimse: Dimse,
    node: NodePeer,
    proposals: Sequence[Proposal],
    roles: Sequence[str],
    extended: Mapping[str, bytes],
    caller: Caller | None,
) -> Association:
    contexts = tuple(
        ProposedContext(2 * at + 1, abstract_syntax, transfer_syntaxes)
        for at, (abstract_syntax, transfer_syntaxes) in enumerate(proposals[:MOST_CONTEXTS])
    )
    user = UserInformation(
        max_pdu_bytes=dimse.settings.max_pdu_bytes,
        roles=tuple(Role(sop_class, scu=True, scp=True) for sop_class in roles),
        extended=extended,
    )
    request = AssociateRequest(node.ae_title, dimse.settings.ae_title, contexts, user)
    layer = _connect(dimse, node)
    try:
        layer.write(encode_request(request))
        kind, body = layer.read_pdu()
        if kind == PduType.ASSOCIATE_RJ:
            how = REASONS.get((body[2], body[3]), f"source {body[2]}, reason {body[3]}")
            if body[1] == 2:  # transient
                raise PeerUnavailable(node.ae_title, how)
            raise PeerRejected(node.ae_title, how)
        if kind != PduType.ASSOCIATE_AC:
            raise PeerUnavailable(node.ae_title, "it does not speak DICOM")
        accept = decode_accept(body)
    except AssociationEnded as end:
        layer.close()
        raise PeerUnavailable(node.ae_title, end.how) from end
    except (CloudfilmError, IndexError):
        layer.close()
        raise
    as_scp = {role.sop_class for role in accept.user.roles if role.scp} & set(roles)
    syntax_of = {context.id: context.abstract_syntax for context in contexts}
    agreed = {
        answer.id: Context(
            answer.id,
            syntax_of[answer.id],
            answer.transfer_syntax,
            as_scp=syntax_of[answer.id] in as_scp,
            as_scu=True,
        )
        for answer in accept.contexts
        if answer.result == ContextResult.ACCEPTED and answer.id in syntax_of
    }
    association = Association(
        layer, agreed, accept.user.max_pdu_bytes, node.ae_title, dimse.settings.ae_title,
        caller or acting_for(node, "dimse"), node, accept.user.extended,
    )  # fmt: skip
    if not agreed:
        association.release()
        raise PeerRejected(node.ae_title, "it accepts none of what was proposed")
    return association


def _connect(dimse: Dimse, node: NodePeer) -> UpperLayer:
    """A connection to the first of the node's addresses that answers."""
    failure: Exception = UnknownPeer(node.ae_title)
    for host, port in node.endpoints:
        try:
            plain = socket.create_connection((host, port), timeout=CONNECT_WITHIN_S)
        except OSError as refused:
            failure = PeerUnavailable(node.ae_title, refused.strerror or type(refused).__name__)
            continue
        try:
            connection = _secured(dimse, node, plain) if node.tls else plain
        except OSError as refused:
            plain.close()
            failure = PeerUnavailable(node.ae_title, f"no TLS, {getattr(refused, 'reason', '') or refused}")
            continue
        return UpperLayer(connection, dimse.settings.max_pdu_bytes, ANSWER_WITHIN_S)
    raise failure


def _secured(dimse: Dimse, node: NodePeer, plain: socket.socket) -> ssl.SSLSocket:
    """The connection under TLS, with the node's own certificate where one is pinned."""
    settings = dimse.settings
    context = client_context(
        "dimse.tls_certificate", settings.tls_certificate, settings.tls_key, settings.tls_ca,
        pinned=bool(node.certificate),
    )  # fmt: skip
    secured = context.wrap_socket(plain, server_hostname=node.host or node.ae_title)
    certificate = secured.getpeercert(binary_form=True) or b""
    if node.certificate and hashlib.sha256(certificate).hexdigest() != node.certificate.lower():
        secured.close()
        raise ssl.SSLError("it shows another certificate than its own")
    if settings.tls_ca or node.certificate:
        try:
            dimse.access.revocations.require_good(
                certificate, dimse.clock.now(), is_pinned=bool(node.certificate)
            )
        except CertificateRefused as refusal:
            secured.close()
            raise ssl.SSLError(refusal.reason) from None
    return secured


def echo(dimse: Dimse, node: NodePeer) -> float:
    """C-ECHO; returns how many seconds association and answer took. Raises PeerRefused and what
    `associated` raises."""
    began = time.monotonic()
    with associated(dimse, node, VERIFYING.proposals()) as association:
        (context,) = association.contexts.values()
        answer = association.invoke(
            context, {"CommandField": Operation.C_ECHO, "AffectedSOPClassUID": str(Verification)}
        )
        _require_success(node, answer)
    return time.monotonic() - began


def _require_success(node: NodePeer, answer: Message) -> None:
    if answer.status != SUCCESS:
        raise PeerRefused(node.ae_title, answer.status, answer.text("ErrorComment"))


def _context_of(association: Association, sop_class: str) -> Context:
    for context in association.contexts.values():
        if context.sop_class == sop_class:
            return context
    raise PeerRejected(association.node.ae_title, "it does not accept this service")


def find(
    dimse: Dimse, node: NodePeer, identifier: Dataset, sop_class: str = FIND
) -> Generator[Dataset, None, None]:
    """C-FIND: every match as it comes in. Raises PeerRefused and what `associated` raises."""
    with associated(dimse, node, QUERYING.proposals(sop_class)) as association:
        yield from find_over(association, identifier, sop_class)


def find_over(
    association: Association, identifier: Dataset, sop_class: str = FIND
) -> Generator[Dataset, None, None]:
    """C-FIND over an association that is open. Left early, it is cancelled."""
    context = _context_of(association, sop_class)
    command: dict[str, Value] = {
        "CommandField": Operation.C_FIND, "AffectedSOPClassUID": sop_class, "Priority": 0,
    }  # fmt: skip
    message_id = association.request(
        context, command, (encode_identifier(identifier, context.transfer_syntax),)
    )
    answer = association.response(message_id)
    try:
        while is_pending(answer.status):
            yield read_identifier(answer.data_set(), context.transfer_syntax)
            answer = association.response(message_id)
    except GeneratorExit:
        association.cancel(context, message_id)
        while is_pending(answer.status):
            answer = association.response(message_id)
        raise
    if answer.status != CANCELLED:
        _require_success(association.node, answer)


@dataclass(frozen=True, slots=True)
class Retrieved:
    """How a C-MOVE or C-GET that we asked for ended."""

    status: int
    completed: int
    failed: int
    warnings: int


def move(
    dimse: Dimse, node: NodePeer, identifier: Dataset, destination: str, sop_class: str = MOVE
) -> Retrieved:
    """C-MOVE: ask a node to send to another one, or to us. Raises PeerRefused for a refusal, and what
    `associated` raises."""
    with associated(dimse, node, MOVING.proposals(sop_class)) as association:
        return move_over(association, identifier, destination, sop_class)


def move_over(
    association: Association, identifier: Dataset, destination: str, sop_class: str = MOVE
) -> Retrieved:
    """C-MOVE over an association that is open."""
    context = _context_of(association, sop_class)
    command: dict[str, Value] = {
        "CommandField": Operation.C_MOVE, "AffectedSOPClassUID": sop_class, "Priority": 0,
        "MoveDestination": destination,
    }  # fmt: skip
    message_id = association.request(
        context, command, (encode_identifier(identifier, context.transfer_syntax),)
    )
    answer = association.response(message_id)
    while is_pending(answer.status):
        answer = association.response(message_id)
    return _retrieved(association, answer)


def _retrieved(association: Association, answer: Message) -> Retrieved:
    if answer.status not in (SUCCESS, CANCELLED) and answer.status >> 12 != 0xB:
        raise PeerRefused(association.node.ae_title, answer.status, answer.text("ErrorComment"))
    return Retrieved(
        answer.status,
        answer.number("NumberOfCompletedSuboperations"),
        answer.number("NumberOfFailedSuboperations"),
        answer.number("NumberOfWarningSuboperations"),
    )


def get_proposals(sop_classes: Sequence[str]) -> list[Proposal]:
    """Contexts for a C-GET that brings in these SOP classes.

    Each compressed syntax has a context of its own, as far as there is room: an acceptor chooses one syntax
    for each context, and one that it chose wrong could only be sent decompressed, or not at all.
    """
    compressed = [
        (sop_class, (syntax,))
        for syntax in STORAGE_SYNTAXES
        if syntax not in PLAIN
        for sop_class in sop_classes
    ]
    plain = [(sop_class, PLAIN) for sop_class in sop_classes]
    return [*GETTING.proposals(), *plain, *compressed][:MOST_CONTEXTS]


def get(
    dimse: Dimse,
    node: NodePeer,
    identifier: Dataset,
    caller: Caller,
    sop_classes: Sequence[str] = COMMON_SOP_CLASSES,
) -> Retrieved:
    """C-GET: bring in what a node has. sop_classes: those that may come, at most 127. Raises PeerRefused
    and what `associated` raises."""
    proposals = get_proposals(sop_classes)
    roles = list(dict.fromkeys(sop_class for sop_class, _ in proposals[1:]))
    with associated(dimse, node, proposals, roles=roles, caller=caller) as association:
        return get_over(dimse, association, identifier)


def get_over(dimse: Dimse, association: Association, identifier: Dataset) -> Retrieved:
    """C-GET over an association that is open for it: what comes in is stored as from any sender."""
    context = _context_of(association, GET)
    command: dict[str, Value] = {
        "CommandField": Operation.C_GET, "AffectedSOPClassUID": GET, "Priority": 0,
    }  # fmt: skip
    association.request(context, command, (encode_identifier(identifier, context.transfer_syntax),))
    while True:
        message = association.receive()
        if message.is_response:
            if not is_pending(message.status):
                return _retrieved(association, message)
        elif message.operation == Operation.C_STORE and message.context.as_scp:
            perform(dimse, association, message, on_store)
        else:
            raise AssociationEnded("broke off by us: it sent something that was not asked for")


def proposals_for(node: NodePeer, forms: Iterable[tuple[str, str]]) -> list[Proposal]:
    """Contexts to send instances of these forms (SOP class, transfer syntax) over.

    Each form gets a context of its own, so that the peer says of each whether it takes it, and each SOP
    class one with what anybody takes. A node that prefers some syntaxes is offered those and no others.
    """
    preferred = node.transfer_syntaxes
    own: list[Proposal] = []
    plain: dict[str, None] = {}
    for sop_class, syntax in forms:
        plain[sop_class] = None
        if not preferred or syntax in preferred:
            own.append((sop_class, (syntax,)))
    fallback = tuple(syntax for syntax in preferred if syntax in PLAIN) or PLAIN
    return [*((sop_class, fallback) for sop_class in plain), *own][:MOST_CONTEXTS]


class Throttle:
    """Keeps a stream below a rate: `pause` after so many bytes."""

    def __init__(self, max_bytes_per_s: int) -> None:
        self._rate = max_bytes_per_s
        self._free_at = time.monotonic()

    def pause(self, size_bytes: int) -> None:
        """Wait until these bytes are within the rate; a second's worth may run ahead."""
        if self._rate > 0:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + size_bytes / self._rate
            time.sleep(max(0.0, self._free_at - now - 1.0))


class Sender:
    """Sends instances to a node, over an association that is opened again when it is lost."""

    def __init__(
        self, dimse: Dimse, node: NodePeer, forms: Sequence[tuple[str, str]], **originator: Value
    ) -> None:
        """forms: SOP class and transfer syntax of what will be sent. originator: as of `send_instance`."""
        self._dimse = dimse
        self._node = node
        self._proposals = proposals_for(node, forms)
        self._originator = originator
        self._throttle = Throttle(node.max_bytes_per_s)
        self._association: Association | None = None

    def __enter__(self) -> "Sender":
        """The association is opened when the first instance is sent."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """End it: released, or aborted after a failure."""
        if self._association is not None and kind is None:
            self._association.release()
        elif self._association is not None:
            self._association.abort()
        self._association = None

    def _open(self) -> Association:
        if self._association is None:
            self._association = open_association(self._dimse, self._node, self._proposals)
        return self._association

    def send(self, outgoing: Outgoing) -> int:
        """Send one instance and return its status (PS3.4 B.2.3).

        When the association is lost meanwhile, it is opened again and the instance sent a second time.
        What cannot be read or converted, and what the peer takes in no form, has a status of failure.
        Raises what `open_association` raises when the node is lost for good.
        """
        for is_last in (False, True):
            try:
                association = self._open()
                context = choose_context(association, outgoing)
                if context is None:
                    return SOP_CLASS_NOT_SUPPORTED
                status = send_instance(association, context, outgoing, **self._originator)
            except AssociationEnded as end:
                if self._association is not None:
                    self._association.close()
                self._association = None
                if isinstance(end, BrokenOff):
                    break
                if is_last:
                    raise PeerUnavailable(self._node.ae_title, end.how) from end
                log.warning("the association with %s is opened again: %s", self._node.ae_title, end.how)
            except (PeerUnavailable, PeerBusy, PeerRejected):
                raise
            except CloudfilmError as refusal:
                log.warning("an instance could not be sent to %s: %s", self._node.ae_title, refusal)
                return PROCESSING_FAILURE
            else:
                self._throttle.pause(outgoing.size_bytes)
                return status
        return PROCESSING_FAILURE


def send_selection(dimse: Dimse, caller: Caller, node: NodePeer, selection: Selection) -> Counts:
    """Send instances of ours to a node and count how it went. Raises what `open_association` raises."""
    found = survey(dimse.archive, caller, selection)
    counts = Counts(found.instances)
    studies: dict[str, None] = {}
    with Sender(dimse, node, found.forms) as sender:
        for stored in find_selected(dimse.archive, caller, selection):
            studies[stored.study_instance_uid] = None
            counts.count(stored.sop_instance_uid, sender.send(as_stored(dimse.archive, stored)))
    note_sent(dimse, caller, studies, counts, node.ae_title)
    return counts


def note_sent(dimse: Dimse, caller: Caller, studies: Iterable[str], counts: Counts, destination: str) -> None:
    """Say in the audit trail what was given to whom, for each study."""
    said = f"to {destination}: {counts.completed + counts.warnings} sent, {counts.failed} failed"
    with dimse.access.database.transaction() as session:
        for study in studies:
            note(
                session, dimse.clock, caller, "send ImagingStudy", study,
                outcome=FAILED if counts.failed else DONE, detail=said,
            )  # fmt: skip


VERIFYING = AskedService("Verification", "PS3.4 A", (str(Verification),), (Operation.C_ECHO,))
QUERYING = AskedService("Query", "PS3.4 C", (FIND,), (Operation.C_FIND,))
GETTING = AskedService("Retrieve", "PS3.4 C", (GET,), (Operation.C_GET,))
MOVING = AskedService("Retrieve (move)", "PS3.4 C", (MOVE,), (Operation.C_MOVE,))


def storing(private_sop_classes: tuple[str, ...] = ()) -> AskedService:
    """Storage, of whatever is kept here: also of the classes that a site accepts beyond the standard."""
    return AskedService(
        "Storage",
        "PS3.4 B",
        (*STORAGE_SOP_CLASSES, *private_sop_classes),
        (Operation.C_STORE,),
        STORAGE_SYNTAXES,
    )
