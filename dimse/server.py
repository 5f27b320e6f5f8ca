"""The server: listens, admits associations, and hands each message to the handler of its service.

One thread serves one association. Several processes listen on one port (SO_REUSEPORT), and the kernel spreads
new connections over them. When told to stop, a process takes no more connections, lets every operation under
way come to its answer, and then ends its associations.

Standards: PS3.8 7 and 9 (upper layer), PS3.7 (messages), PS3.15 B (secure transport).
"""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from access.audit import REFUSED, note, note_once
from access.caller import Caller, Door, Permissions, Principal, PrincipalKind
from access.nodes import NodePeer, UnknownNode, identify_node
from dimse.associate import AssociateRequest, decode_request, encode_accept, encode_reject
from dimse.association import Association, Message
from dimse.command import Operation
from dimse.find import QUERY
from dimse.negotiation import (
    Rejection,
    check_request,
    congested,
    negotiate,
    too_many,
    unknown_calling,
)
from dimse.retrieve import RETRIEVE_SERVICES
from dimse.service import Dimse, Service, perform
from dimse.statuses import SOP_CLASS_NOT_SUPPORTED, UNRECOGNIZED_OPERATION
from dimse.store import storage
from dimse.upper_layer import AbortReason, AssociationEnded, PduType, ProtocolViolation, UpperLayer
from dimse.verification import VERIFICATION
from kernel.database import DatabaseUnavailable
from kernel.settings import DimseSettings, Settings

log = logging.getLogger(__name__)

NEGOTIATION_S = 30.0  # a connection must become an association within this time (the ARTIM timer)
STOP_WITHIN_S = 15.0  # operations under way may take this long to end
BACKLOG = 512
FIXED_SERVICES = (VERIFICATION, QUERY, *RETRIEVE_SERVICES)


class Rooms(Protocol):
    """What this door takes of `cloudfilm.rooms.Rooms`."""

    @property
    def settings(self) -> Settings: ...
    @property
    def dimse(self) -> Dimse: ...


def services(settings: DimseSettings) -> tuple[Service, ...]:
    """Every service class that is offered; the conformance statement reads this too."""
    return (*FIXED_SERVICES, storage(settings.private_sop_classes))


def run(rooms: Rooms, stop: threading.Event) -> None:
    """Serve until `stop` is set. Raises OSError when the port cannot be listened on."""
    settings = rooms.settings.dimse
    server = Server(rooms.dimse)
    server.listen()
    log.info("%s listens at %s:%d", settings.ae_title, settings.host, server.port)
    try:
        server.serve(stop)
    finally:
        server.stop()


@dataclass(slots=True)
class Server:
    """One listening process."""

    dimse: Dimse
    tls: ssl.SSLContext | None = None
    _listener: socket.socket | None = None
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
    def port(self) -> int:
        """The port that is listened on."""
        if self._listener is None:
            raise RuntimeError("not listening")
        return int(self._listener.getsockname()[1])

    def listen(self) -> None:
        """Open the port, beside other processes that listen on it. Raises OSError."""
        settings = self.dimse.settings
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((settings.host, settings.port))
            listener.listen(BACKLOG)
            listener.settimeout(0.5)
        except OSError:
            listener.close()
            raise
        self._listener = listener

    def serve(self, stop: threading.Event) -> None:
        """Take connections until `stop` is set."""
        if self._listener is None:
            raise RuntimeError("not listening")
        while not stop.is_set():
            try:
                connection, address = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as failure:  # the peer has gone already, or this process has no descriptor left
                log.warning("a connection could not be taken: %s", failure.strerror)
                stop.wait(0.1)
                continue
            thread = threading.Thread(
                target=self._serve_connection,
                args=(connection, str(address[0])),
                name="association",
                daemon=True,
            )
            with self._lock:
                self._threads[thread] = None
            thread.start()

    def stop(self) -> None:
        """Close the port, wait for operations under way, end all associations."""
        self._is_stopping = True
        if self._listener is not None:
            self._listener.close()
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

    def _serve_connection(self, connection: socket.socket, address: str) -> None:
        """The life of one connection; whatever happens in it ends here."""
        thread = threading.current_thread()
        try:
            if self.tls is not None:
                connection.settimeout(NEGOTIATION_S)
                connection = self.tls.wrap_socket(connection, server_side=True)
            layer = UpperLayer(connection, self.dimse.settings.max_pdu_bytes, NEGOTIATION_S)
            association = self._admit(layer, address)
            if association is not None:
                with self._lock:
                    self._threads[thread] = association
                layer.set_timeout(self.dimse.settings.idle_timeout_s)
                self._serve(association)
        except AssociationEnded as end:
            log.info("connection from %s ended: %s", address, end.how)
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
            return self._accept(layer, request, address)
        except Rejection as rejection:
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
            caller, node = identify_node(access, request.calling, address, layer.certificate_sha256)
        except UnknownNode:
            raise unknown_calling() from None
        except DatabaseUnavailable:
            raise congested() from None
        with self._lock:
            present = [other for other in self._threads.values() if other is not None]
        of_node = sum(other.calling == request.calling for other in present)
        if len(present) >= settings.max_associations or 0 < node.max_associations <= of_node:
            raise too_many()
        agreed = negotiate(request, self._services, settings.max_pdu_bytes, node.transfer_syntaxes)
        note_once(
            access.database,
            self.dimse.archive.recently,
            self.dimse.clock,
            caller,
            "associate",
            request.calling,
        )
        association = Association(
            layer,
            agreed.contexts,
            request.user.max_pdu_bytes,
            request.called,
            request.calling,
            caller,
            node,
            agreed.accept.user.extended,
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
            association.abort(2, violation.reason)
        except AssociationEnded as end:
            log.info("association with %s ended: %s", association.calling, end.how)
            if end.how == "timed out":
                association.abort(2)
        else:
            association.abort()

    def _answer(self, association: Association, request: Message) -> None:
        if request.operation == Operation.C_CANCEL:
            return  # of an operation that has had its last answer
        if request.is_response:
            raise ProtocolViolation("sent a response to nothing", AbortReason.UNEXPECTED_PDU)
        service = self._services[request.context.sop_class]
        handler = (
            service.handlers.get(Operation(request.operation)) if request.operation in _OPERATIONS else None
        )
        if handler is None or not request.context.as_scp:
            known = request.operation in _OPERATIONS
            association.respond(request, SOP_CLASS_NOT_SUPPORTED if known else UNRECOGNIZED_OPERATION)
            return
        perform(self.dimse, association, request, handler)


_OPERATIONS = frozenset(Operation)
_NO_NODE = NodePeer("", "", 0, "", "", (), (), False, 0)


def _nobody(ae_title: str, address: str) -> Caller:
    """Who was refused, for the audit trail."""
    return Caller(
        Principal(PrincipalKind.NODE, ae_title, ae_title), Door.DIMSE, Permissions(), address=address
    )


def _linger(layer: UpperLayer) -> None:
    """Give the peer a moment to read a refusal: closing at once may take it back (PS3.8 9.2, state 13)."""
    layer.set_timeout(1.0)
    try:
        layer.read_pdu()
    except AssociationEnded:
        return
