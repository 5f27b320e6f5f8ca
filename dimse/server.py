"""The server: listens, admits associations, and hands each message to the handler of its service.

One thread serves one association. Several processes listen on one port (SO_REUSEPORT), and the kernel spreads
new connections over them. When told to stop, a process takes no more connections, lets every operation under
way come to its answer, and then ends its associations.

Standards: PS3.8 7 and 9 (upper layer), PS3.7 (messages), PS3.15 B (secure transport).
"""

import logging
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, cast

from access.audit import REFUSED, note, note_once
from access.caller import Caller, Door, Permissions, Principal, PrincipalKind
from access.nodes import NodePeer, UnknownNode, identify_node, node_state
from access.revocation_lists import CertificateRefused
from dimse.associate import AssociateRequest, UserIdentity, decode_request, encode_accept, encode_reject
from dimse.association import Association, Message
from dimse.command import Operation
from dimse.find import QUERY
from dimse.negotiation import (
    Rejection,
    check_request,
    congested,
    negotiate,
    refused_certificate,
    too_many,
    unknown_calling,
)
from dimse.peers import GETTING, MOVING, QUERYING, VERIFYING, storing
from dimse.retrieve import RETRIEVE_SERVICES
from dimse.service import AskedService, Dimse, Handler, Service, note_association, perform
from dimse.slots import Slot
from dimse.statuses import SOP_CLASS_NOT_SUPPORTED, UNRECOGNIZED_OPERATION
from dimse.store import storage
from dimse.upper_layer import AbortReason, AssociationEnded, PduType, ProtocolViolation, UpperLayer
from dimse.verification import VERIFICATION
from dimse.workflow import ASKED_WORKFLOW, WORKFLOW_SERVICES
from kernel.database import DatabaseUnavailable, UnstorableText
from kernel.metrics import ASSOCIATIONS, DIMSE_REQUESTS
from kernel.row_codes import RowChanged
from kernel.settings import DimseSettings, Settings
from kernel.tls import server_context
from kernel.traces import SERVER, span

log = logging.getLogger(__name__)

NEGOTIATION_S = 30.0  # a connection must become an association within this time (the ARTIM timer)
STOP_WITHIN_S = 15.0  # operations under way may take this long to end
BACKLOG = 512
FIXED_SERVICES = (VERIFICATION, QUERY, *RETRIEVE_SERVICES, *WORKFLOW_SERVICES)


class Rooms(Protocol):
    """What this door takes of `cloudfilm.rooms.Rooms`."""

    @property
    def settings(self) -> Settings: ...
    @property
    def dimse(self) -> Dimse: ...


def services(settings: DimseSettings) -> tuple[Service, ...]:
    """Every service class that is offered; the conformance statement reads this too."""
    return (*FIXED_SERVICES, storage(settings.private_sop_classes))


def asked_services(settings: DimseSettings) -> tuple[AskedService, ...]:
    """Every service for which we open associations; the conformance statement reads this too."""
    return (
        VERIFYING, storing(settings.private_sop_classes), QUERYING, GETTING, MOVING, *ASKED_WORKFLOW,
    )  # fmt: skip


def run(rooms: Rooms, stop: threading.Event) -> None:
    """Serve until `stop` is set. Raises OSError when the port cannot be listened on."""
    settings = rooms.settings.dimse
    server = Server(rooms.dimse)
    server.listen()
    log.info("%s listens at %s:%s", settings.ae_title, settings.host, "+".join(map(str, server.ports)))
    try:
        server.serve(stop)
    finally:
        server.stop()


@dataclass(slots=True)
class Server:
    """One listening process: a plain port and, where it is set, one under TLS."""

    dimse: Dimse
    _listeners: dict[socket.socket, ssl.SSLContext | None] = field(default_factory=dict)
    _services: Mapping[str, Service] = field(default_factory=dict)
    _threads: dict[threading.Thread, Association | None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_stopping: bool = False

    def __post_init__(self) -> None:
        self._services = {
            sop_class: service
            for service in services(self.dimse.settings)
            for sop_class in service.sop_classes
        }

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that are listened on, the plain one first."""
        return tuple(int(listener.getsockname()[1]) for listener in self._listeners)

    def listen(self) -> None:
        """Open the ports, beside other processes that listen on them. Raises OSError or InvalidSetting."""
        settings = self.dimse.settings
        self._listeners[self._open(settings.port)] = None
        if settings.tls_port:
            context = server_context(
                "dimse.tls_certificate", settings.tls_certificate, settings.tls_key, settings.tls_ca
            )
            self._listeners[self._open(settings.tls_port)] = context

    def _open(self, port: int) -> socket.socket:
        host = self.dimse.settings.host
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        return listener

    def serve(self, stop: threading.Event) -> None:
        """Take connections until `stop` is set."""
        waiting = selectors.DefaultSelector()
        for listener in self._listeners:
            waiting.register(listener, selectors.EVENT_READ)
        with waiting:
            while not stop.is_set():
                for ready, _ in waiting.select(0.5):
                    listener = cast(socket.socket, ready.fileobj)
                    try:
                        connection, address = listener.accept()
                    except BlockingIOError:  # another process was first
                        continue
                    except OSError as failure:  # the peer has gone, or no descriptor is left
                        log.warning("a connection could not be taken: %s", failure.strerror)
                        stop.wait(0.1)
                        continue
                    connection.setblocking(True)
                    self._start(connection, str(address[0]), self._listeners[listener])

    def _start(self, connection: socket.socket, address: str, tls: ssl.SSLContext | None) -> None:
        thread = threading.Thread(
            target=self._serve_connection, args=(connection, address, tls), name="association", daemon=True
        )
        with self._lock:
            is_too_many = len(self._threads) >= 2 * self.dimse.settings.max_associations + SPARE_CONNECTIONS
            if not is_too_many:
                self._threads[thread] = None
        if is_too_many:  # not even a rejection: whoever opens so many does not read it
            connection.close()
        else:
            thread.start()

    def stop(self) -> None:
        """Close the port, wait for operations under way, end all associations."""
        self._is_stopping = True
        for listener in self._listeners:
            listener.close()
        deadline = time.monotonic() + STOP_WITHIN_S
        while time.monotonic() < deadline:
            with self._lock:
                threads = dict(self._threads)
            if not threads:
                return
            for association in threads.values():
                if association is not None and not association.is_busy:
                    association.layer.interrupt()
            next(iter(threads)).join(0.05)

    def _serve_connection(self, connection: socket.socket, address: str, tls: ssl.SSLContext | None) -> None:
        """The life of one connection; whatever happens in it ends here."""
        thread = threading.current_thread()
        try:
            if tls is not None:
                connection.settimeout(NEGOTIATION_S)
                connection = tls.wrap_socket(connection, server_side=True)
            layer = UpperLayer(connection, self.dimse.settings.max_pdu_bytes, NEGOTIATION_S)
            association = self._admit(layer, address)
            if association is not None:
                with self._lock:
                    self._threads[thread] = association
                layer.set_timeout(self.dimse.settings.idle_timeout_s)
                association.when_closed = partial(note_association, self.dimse)
                try:
                    self._serve(association)
                finally:
                    association.close()
        except AssociationEnded as end:
            log.info("connection from %s ended: %s", address, end.how)
        except ssl.SSLError as failure:
            log.warning("connection from %s has no TLS: %s", address, failure.reason)
        except OSError as failure:
            log.info("connection from %s ended: %s", address, type(failure).__name__)
        except Exception:
            log.exception("a connection from %s ended by a fault", address)
        finally:
            connection.close()
            with self._lock:
                del self._threads[thread]

    def _admit(self, layer: UpperLayer, address: str) -> Association | None:
        """Answer the request for an association; None when it is refused."""
        try:
            kind, body = layer.read_pdu()
            if kind != PduType.ASSOCIATE_RQ:
                raise ProtocolViolation("did not begin with a request", AbortReason.UNEXPECTED_PDU)
            request = decode_request(body)
        except ProtocolViolation as violation:
            Association(layer, {}, 0, "", "", _nobody("", address), _NO_NODE).abort(2, violation.reason)
            raise
        try:
            accepted = self._accept(layer, request, address)
            ASSOCIATIONS.labels("accepted").inc()
            return accepted
        except Rejection as rejection:
            ASSOCIATIONS.labels("rejected").inc()
            log.warning("association from %s refused: %s", address, rejection.why)
            layer.write(encode_reject(rejection.result, rejection.source, rejection.reason))
            self._note_refusal(request, address, rejection.why)
            _linger(layer)
            return None

    def _accept(self, layer: UpperLayer, request: AssociateRequest, address: str) -> Association:
        settings, access = self.dimse.settings, self.dimse.access
        if self._is_stopping:
            raise congested()
        check_request(request, settings.ae_title)
        try:
            state = node_state(access, request.calling)  # before it is decided on: a change in between shows
            caller, node = identify_node(access, request.calling, address, layer.certificate)
        except (UnknownNode, RowChanged, UnstorableText):
            raise unknown_calling() from None
        except CertificateRefused as refusal:
            raise refused_certificate(refusal.reason) from None
        except DatabaseUnavailable:
            raise congested() from None
        with self._lock:
            present = [other for other in self._threads.values() if other is not None]
        if len(present) >= settings.max_associations:
            raise too_many()
        slot = self.dimse.slots.take(f"from {request.calling}", node.max_associations)
        if slot is None:
            raise too_many()
        try:
            association = self._established(layer, request, _named(caller, request.user.identity), node, slot)
            association.decided_on = state
            return association
        except DatabaseUnavailable:
            slot.free()
            raise congested() from None
        except BaseException:
            slot.free()
            raise

    def _established(
        self, layer: UpperLayer, request: AssociateRequest, caller: Caller, node: NodePeer, slot: Slot
    ) -> Association:
        settings = self.dimse.settings
        agreed = negotiate(request, self._services, settings.max_pdu_bytes, node.transfer_syntaxes)
        note_once(
            self.dimse.access.database, self.dimse.archive.recently, self.dimse.clock, caller, "associate",
            request.calling,
        )  # fmt: skip
        association = Association(
            layer,
            agreed.contexts,
            request.user.max_pdu_bytes,
            request.called,
            request.calling,
            caller,
            node,
            agreed.accept.user.extended,
            slot=slot,
        )
        layer.write(encode_accept(agreed.accept))
        return association

    def _note_refusal(self, request: AssociateRequest, address: str, why: str) -> None:
        recently = self.dimse.archive.recently
        if recently.seen("refused", request.calling, address):
            return
        recently.mark("refused", request.calling, address)
        with self.dimse.access.database.transaction() as session:
            note(
                session, self.dimse.clock, _nobody(request.calling, address), "associate", request.calling,
                outcome=REFUSED, detail=why,
            )  # fmt: skip

    def _serve(self, association: Association) -> None:
        """Answer messages until the peer has no more."""
        try:
            while not self._is_stopping:
                request = association.receive()
                association.is_busy = True
                self._answer(association, request)
                association.forget_cancellations()
                association.is_busy = False
        except ProtocolViolation as violation:
            log.warning("%s %s", association.calling, violation.how)
            association.ending = f"aborted: {violation.how}"
            association.abort(2, violation.reason)
        except AssociationEnded as end:
            log.info("association with %s ended: %s", association.calling, end.how)
            association.ending = end.how
            if end.how == "timed out":
                association.abort(2)
        else:
            association.abort()

    def _answer(self, association: Association, request: Message) -> None:
        if request.operation == Operation.C_CANCEL:
            return  # of an operation that has had its last answer
        if association.is_awaited(request):
            return
        if request.is_response:
            raise ProtocolViolation("sent a response to nothing", AbortReason.UNEXPECTED_PDU)
        known = request.operation in _OPERATIONS
        DIMSE_REQUESTS.labels(Operation(request.operation).name if known else "unknown").inc()
        service = self._services[request.context.sop_class]
        handler = service.handlers.get(Operation(request.operation)) if known else None
        if handler is None or not request.context.as_scp:
            association.respond(request, SOP_CLASS_NOT_SUPPORTED if known else UNRECOGNIZED_OPERATION)
            return
        handler = handler if service is VERIFICATION else _as_known_now(handler)
        name = Operation(request.operation).name
        with span(name, SERVER, dicom_sop_class=request.context.sop_class, dicom_calling=association.calling):
            perform(self.dimse, association, request, handler)


USER_NAME, USER_NAME_AND_PASSCODE = 1, 2  # types of user identity
SPARE_CONNECTIONS = 32  # that may be at their negotiation, beside those that are associations
_OPERATIONS = frozenset(Operation)
_NO_NODE = NodePeer("", "", 0, "", "", (), (), False, 0)


def _as_known_now(handler: Handler) -> Handler:
    """Let a change of the node's row, of rules or of consents hold from this message on, not only from the
    next association; a node that is known no longer is refused."""

    def handle(dimse: Dimse, association: Association, request: Message) -> None:
        state = node_state(dimse.access, association.calling)
        if state != association.decided_on:
            present = association.caller
            caller, association.node = identify_node(
                dimse.access, association.calling, present.address, association.layer.certificate
            )
            principal = replace(caller.principal, name=present.principal.name)
            association.caller, association.decided_on = replace(caller, principal=principal), state
        handler(dimse, association, request)

    return handle


def _nobody(ae_title: str, address: str) -> Caller:
    """Who was refused, for the audit trail."""
    return Caller(
        Principal(PrincipalKind.NODE, ae_title, ae_title), Door.DIMSE, Permissions(), address=address
    )


def _named(caller: Caller, identity: UserIdentity | None) -> Caller:
    """The node's caller with the user that it names (PS3.7 D.3.3.7). The node answers for its users: their
    names stand in the audit trail, and give no rights of their own."""
    if identity is None or identity.type not in (USER_NAME, USER_NAME_AND_PASSCODE):
        return caller
    name = "".join(
        character for character in identity.primary.decode("utf-8", "replace") if character.isprintable()
    )
    principal = replace(caller.principal, name=f"{caller.principal.name} ({name[:64]})")
    return replace(caller, principal=principal)


def _linger(layer: UpperLayer) -> None:
    """Give the peer a moment to read a refusal: closing at once may take it back (PS3.8 9.2, state 13)."""
    layer.set_timeout(1.0)
    try:
        layer.read_pdu()
    except AssociationEnded:
        return
