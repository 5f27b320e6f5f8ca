"""An association: messages in both directions over accepted presentation contexts (PS3.7, PS3.8 annex E).

A message is a command set and perhaps a data set. The data set of a message that came in is a stream: its
fragments are views of the receive buffer, to be used before the next is asked for; what its reader
leaves over
is passed over before anything else is read. One operation runs at a time (no asynchronous window is granted),
so a response follows its request, and only a cancellation may come in between.
"""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from access.caller import Caller
from access.nodes import NodePeer
from dimse.associate import encode_abort
from dimse.command import (
    HAS_DATA_SET,
    NO_DATA_SET,
    RESPONSE,
    Command,
    InvalidCommand,
    Operation,
    Value,
    decode_command,
    encode_command,
)
from dimse.slots import Slot
from dimse.statuses import is_pending
from dimse.upper_layer import (
    COMMAND,
    PDU_HEADER,
    AbortReason,
    AssociationEnded,
    BrokenOff,
    PduType,
    Pdv,
    ProtocolViolation,
    UpperLayer,
    data_pdus,
)
from kernel.errors import CloudfilmError

MAX_COMMAND_BYTES = 1 << 16
MAX_IDENTIFIER_BYTES = (
    1 << 24
)  # a data set that is read whole: identifiers, attribute lists, film boxes' pixels
EMPTY_AFTER_S = 10.0  # see `Association.fragments`
CANCEL_WINDOW = 8  # cancellations remembered of messages that are not being answered


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    id: int
    sop_class: str
    transfer_syntax: str
    as_scp: bool = True  # whether this side may perform what is asked over it
    as_scu: bool = False  # whether this side may ask over it


@dataclass(slots=True)
class Message:
    """A message that came in."""

    association: "Association"
    context: Context
    command: dict[str, Value]

    @property
    def operation(self) -> int:
        """The command field without the response bit."""
        return self.number("CommandField") & ~RESPONSE

    @property
    def is_response(self) -> bool:
        """Whether it answers a request of ours."""
        return bool(self.number("CommandField") & RESPONSE)

    @property
    def status(self) -> int:
        """The status of a response."""
        return self.number("Status")

    @property
    def id(self) -> int:
        """The message id of a request."""
        return self.number("MessageID")

    def number(self, keyword: str) -> int:
        """A number of the command set; 0 when it is absent."""
        value = self.command.get(keyword, 0)
        return value if isinstance(value, int) else 0

    def text(self, keyword: str) -> str:
        """A text of the command set; empty when it is absent."""
        value = self.command.get(keyword, "")
        return value if isinstance(value, str) else ""

    def tags(self, keyword: str) -> tuple[int, ...]:
        """A list of tags of the command set; empty when it is absent."""
        value = self.command.get(keyword, ())
        return value if isinstance(value, tuple) else ()

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows, read or not."""
        return self.number("CommandDataSetType") != NO_DATA_SET

    def fragments(self) -> Iterator[memoryview]:
        """The data set, piece by piece; each is valid until the next is asked for."""
        return self.association.fragments()

    def data_set(self) -> bytes:
        """The data set as a whole. Raises ProtocolViolation beyond MAX_IDENTIFIER_BYTES."""
        whole = io.BytesIO()
        for fragment in self.fragments():
            whole.write(fragment)
            if whole.tell() > MAX_IDENTIFIER_BYTES:
                raise ProtocolViolation("sent a data set that is too large for its service")
        return whole.getvalue()


@dataclass(slots=True)
class Association:
    """One association, on either side."""

    layer: UpperLayer
    contexts: Mapping[int, Context]
    max_pdu_bytes: int  # that the peer takes; 0: no limit
    called: str
    calling: str
    caller: Caller
    node: NodePeer
    extended: Mapping[str, bytes] = field(default_factory=dict)  # accepted extended negotiation, by SOP class
    is_busy: bool = False  # in the middle of an operation
    kept: dict[str, Any] = field(default_factory=dict)  # what a service keeps for as long as it lasts
    decided_on: tuple[object, ...] = ()  # what `caller` was decided on: `access.nodes.node_state`
    slot: Slot | None = None  # given back when the association ends
    when_closed: "Callable[[Association], None] | None" = None  # called once
    answered: Counter[tuple[str, int]] = field(default_factory=Counter)  # by operation and final status
    asked: Counter[str] = field(default_factory=Counter)  # requests of ours, by operation
    ending: str = ""  # how it came to its end
    _open: Context | None = None  # the context of a data set that has not been read to its end
    _may_be_empty: bool = False  # nothing of it has come yet, and it is no object
    _cancelled: list[int] = field(default_factory=list)
    _awaited: dict[int, Callable[[Message], None]] = field(default_factory=dict)
    _last_message_id: int = 0

    def receive(self) -> Message:
        """The next message. Raises Released, ProtocolViolation or AssociationEnded."""
        for _ in self.fragments():
            continue
        pieces = bytearray()
        while True:
            pdv = self.layer.read_pdv()
            if not pdv.is_command:
                raise ProtocolViolation("sent a data set without a command", AbortReason.UNEXPECTED_PDU)
            pieces += pdv.data
            if len(pieces) > MAX_COMMAND_BYTES:
                raise ProtocolViolation("sent a command set that is too large")
            if pdv.is_last:
                break
        return self._message(pdv, bytes(pieces))

    def _message(self, pdv: Pdv, data: bytes) -> Message:
        context = self.contexts.get(pdv.context_id)
        if context is None:
            raise ProtocolViolation("used a presentation context that was not accepted")
        try:
            message = Message(self, context, decode_command(data))
        except InvalidCommand:
            raise ProtocolViolation("sent a command set that cannot be read") from None
        if "CommandField" not in message.command:
            raise ProtocolViolation("sent a command set without a command")
        self._open = context if message.has_data_set else None
        self._may_be_empty = message.operation != Operation.C_STORE
        return message

    def fragments(self) -> Iterator[memoryview]:
        """What is left of the data set that is coming in.

        pynetdicom announces a data set without elements and then sends none, not even a fragment without
        bytes: what has not begun a while after its command is taken for that, unless it is an object's.
        """
        while self._open is not None:
            if self._may_be_empty and not self.layer.is_readable(EMPTY_AFTER_S):
                self._open = None
                return
            self._may_be_empty = False
            pdv = self.layer.read_pdv()
            if pdv.is_command or pdv.context_id != self._open.id:
                raise ProtocolViolation(
                    "broke off a data set with something else", AbortReason.UNEXPECTED_PDU
                )
            if pdv.is_last:
                self._open = None
            yield pdv.data

    def send(
        self, context: Context, command: Command, data: Iterable[bytes | memoryview] | None = None
    ) -> None:
        """Send a message. data: the encoded data set in pieces. Raises AssociationEnded."""
        kind = NO_DATA_SET if data is None else HAS_DATA_SET
        encoded = encode_command({**command, "CommandDataSetType": kind})
        buffers: list[bytes | memoryview] = []
        for some in data_pdus(context.id, COMMAND, (encoded,), self.max_pdu_bytes):
            buffers += some
        if data is not None:
            buffers = self._send_most(context, buffers, data)
        if buffers:
            self.layer.write(*buffers)

    def _send_most(
        self, context: Context, buffers: list[bytes | memoryview], data: Iterable[bytes | memoryview]
    ) -> list[bytes | memoryview]:
        """Send a data set behind what waits; returns what is left to be sent with what comes next.

        What the source of the data refuses at its very begin is passed on, for nothing has been sent yet;
        later it ends the association, for half of a message cannot be taken back.
        """
        sent = False
        try:
            for some in data_pdus(context.id, 0, data, self.max_pdu_bytes):
                buffers += some
                if sum(map(len, buffers)) > 8192:
                    self.layer.write(*buffers)
                    buffers, sent = [], True
        except CloudfilmError as failure:
            if not sent:
                raise
            self.abort()
            raise BrokenOff from failure
        return buffers

    def respond(self, request: Message, status: int, data: bytes | None = None, **elements: Value) -> None:
        """Answer a request; SOP class and instance are repeated from it unless given. Raises
        AssociationEnded."""
        command: dict[str, Value] = {
            "CommandField": request.number("CommandField") | RESPONSE,
            "MessageIDBeingRespondedTo": request.id,
            "AffectedSOPClassUID": request.text("AffectedSOPClassUID")
            or request.text("RequestedSOPClassUID"),
            "Status": status,
        }
        instance = request.text("AffectedSOPInstanceUID") or request.text("RequestedSOPInstanceUID")
        if instance:
            command["AffectedSOPInstanceUID"] = instance
        if not is_pending(status):
            self.answered[operation_name(request.operation), status] += 1
        comment = elements.get("ErrorComment")
        if isinstance(comment, str):
            elements["ErrorComment"] = comment[:64]  # LO
        self.send(request.context, {**command, **elements}, None if data is None else (data,))

    def invoke(
        self, context: Context, command: Command, data: Iterable[bytes | memoryview] | None = None
    ) -> Message:
        """Send a request and wait for its first response. Raises AssociationEnded."""
        message_id = self.request(context, command, data)
        return self.response(message_id)

    def request(
        self, context: Context, command: Command, data: Iterable[bytes | memoryview] | None = None
    ) -> int:
        """Send a request and return its message id."""
        self._last_message_id = self._last_message_id % 0xFFFF + 1
        self.asked[operation_name(command["CommandField"])] += 1
        self.send(context, {**command, "MessageID": self._last_message_id}, data)
        return self._last_message_id

    def response(self, message_id: int) -> Message:
        """The next response to a request of ours. Raises AssociationEnded."""
        while True:
            message = self.receive()
            if message.operation == Operation.C_CANCEL:
                self._remember_cancellation(message)
            elif message.is_response and message.number("MessageIDBeingRespondedTo") == message_id:
                return message
            elif not self.is_awaited(message):
                raise ProtocolViolation("sent a message out of turn", AbortReason.UNEXPECTED_PDU)

    def tell(
        self,
        context: Context,
        command: Command,
        data: Iterable[bytes | memoryview],
        then: Callable[[Message], None],
    ) -> None:
        """Send a request of ours between those of the peer, and do not wait: it may be asking the next thing
        already. `then` gets the response, whenever it comes."""
        self._awaited[self.request(context, command, data)] = then

    def is_awaited(self, message: Message) -> bool:
        """Whether a message is the response to something that was told; then it has been taken."""
        if not message.is_response:
            return False
        then = self._awaited.pop(message.number("MessageIDBeingRespondedTo"), None)
        if then is not None:
            then(message)
        return then is not None

    def cancel(self, context: Context, message_id: int) -> None:
        """Ask the peer to end an operation that it is answering (PS3.7 9.3.2.3)."""
        self.send(context, {"CommandField": Operation.C_CANCEL, "MessageIDBeingRespondedTo": message_id})

    def is_cancelled(self, request: Message) -> bool:
        """Whether the peer has cancelled a request that is being answered; does not wait."""
        while self.layer.is_readable():
            message = self.receive()
            if self.is_awaited(message):
                continue
            if message.operation != Operation.C_CANCEL:
                raise ProtocolViolation("sent a message out of turn", AbortReason.UNEXPECTED_PDU)
            self._remember_cancellation(message)
        return request.id in self._cancelled

    def _remember_cancellation(self, message: Message) -> None:
        self._cancelled = [*self._cancelled, message.number("MessageIDBeingRespondedTo")][-CANCEL_WINDOW:]

    def forget_cancellations(self) -> None:
        """Message ids are used again: what was cancelled counts for one operation only."""
        self._cancelled = []

    def release(self) -> None:
        """End in good order, as the requestor."""
        self.ending = self.ending or "released"
        try:
            self.layer.write(PDU_HEADER.pack(PduType.RELEASE_RQ, 4) + bytes(4))
            while self.layer.read_pdu()[0] == PduType.DATA:
                continue
        except AssociationEnded:
            pass  # it has ended either way
        finally:
            self.close()

    def abort(self, source: int = 0, reason: int = 0) -> None:
        """End at once. source: 0 the service user, 2 the service provider (PS3.8 9.3.8)."""
        self.ending = self.ending or "aborted by us"
        try:
            self.layer.write(encode_abort(source, reason))
        except AssociationEnded:
            pass  # it has ended either way
        finally:
            self.close()

    def close(self) -> None:
        """Give back what it holds, without a word to the peer."""
        self.layer.close()
        if self.slot is not None:
            self.slot.free()
        then, self.when_closed = self.when_closed, None
        if then is not None:
            then(self)

    def account(self) -> str:
        """What was done over it, for the audit trail: operations by status, bytes, and how it ended."""
        done = [
            f"{name} {count}" + (f" ({status:04X})" if status else "")
            for (name, status), count in sorted(self.answered.items())
        ]
        done += [f"asked {name} {count}" for name, count in sorted(self.asked.items())]
        moved = f"{self.layer.bytes_received} bytes in, {self.layer.bytes_sent} out"
        return "; ".join((", ".join(done) or "nothing", moved, self.ending or "ended"))


def operation_name(operation: Value) -> str:
    """The operation in the words of PS3.7."""
    try:
        return Operation(operation).name.replace("_", "-")  # type: ignore[arg-type]
    except ValueError:
        return "unknown"
