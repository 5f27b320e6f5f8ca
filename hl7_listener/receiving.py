"""Receiving: every message is kept as it came before it is answered, then processed, then answered.

One transaction keeps the message, does what it says and keeps the answer, so an acknowledgement means that
all of that is durable. What cannot be used is kept too (a dead letter with its reason) and answered
negatively; what cannot be kept is rejected, and the sender sends it again. The same message sent twice
is processed once and answered alike. Another message under the same control id is another message, for
counters start anew; that it happened is written down with it.
"""

import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from access.audit import note_refusal
from access.caller import Action, Caller
from hl7_listener.acknowledgement import (
    CODES,
    ERROR,
    REJECTED,
    Header,
    Refusal,
    acknowledge,
    header_of,
    is_wanted,
)
from hl7_listener.er7 import Message, UnreadableMessage, batch_of, parse, split_batch
from hl7_listener.messages import handler_of
from hl7_listener.model import Hl7Message
from hl7_listener.provenance import tell
from hl7_listener.room import ContentError, Done, Hl7, Work
from hl7_listener.sequence import take_number
from kernel.database import Overtaken, table_of
from kernel.errors import CloudfilmError, Forbidden, Kind
from kernel.traces import span

log = logging.getLogger(__name__)

SEALED, ANSWER = "hl7_message.sealed", "hl7_message.answer"
SEND = Action("Message", "c")
VERSION = re.compile(r"2\.[1-9](\.[0-9])?")
PROCESSING_IDS = frozenset({"", "P", "T", "D", "1"})
NOT_PROCESSED = "The message was kept and could not be processed."
MOST_TURNS = 5  # of a message that meets another at work
NOT_ANSWERED = frozenset({"ACK", "MCF", "ORR", "ORG", "ORI", "RSP"})  # answers themselves


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back: nothing, one answer, or an accept and an application answer."""

    messages: tuple[bytes, ...] = ()
    is_positive: bool = True


def receive(hl7: Hl7, caller: Caller, raw: bytes) -> Answer:
    """Take one message, or a batch of them, and say what to send back. Never raises for what it is given."""
    batch = split_batch(raw)
    if batch is None:
        return _receive_one(hl7, caller, raw)
    answers = [_receive_one(hl7, caller, each) for each in batch]
    messages = tuple(message for answer in answers for message in answer.messages)
    is_positive = all(answer.is_positive for answer in answers)
    if hl7.settings.answer_batches_as_one:
        messages = (batch_of(messages, hl7.clock.now()),)
    return Answer(messages, is_positive)


def receive_all(hl7: Hl7, arrivals: Sequence[tuple[Caller, bytes]]) -> list[Answer]:
    """Take messages of several connections at once, in one transaction; each is answered as by `receive`.

    One that is refused is undone by itself, and taken again alone.
    """
    if len(arrivals) < 2:
        return [receive(hl7, caller, raw) for caller, raw in arrivals]
    writes: dict[int, Callable[[Session], Answer]] = {}
    for at, (caller, raw) in enumerate(arrivals):
        message = _readable(raw)
        if message is not None and caller.may(SEND):
            writes[at] = partial(_keep_and_process, hl7, caller, raw, message)
    done = dict(zip(writes, hl7.commits.run_all(list(writes.values())), strict=True))
    answers = []
    for at, (caller, raw) in enumerate(arrivals):
        answer = done.get(at)
        answers.append(answer if isinstance(answer, Answer) else receive(hl7, caller, raw))
    return answers


def _readable(raw: bytes) -> Message | None:
    try:
        return parse(raw) if split_batch(raw) is None else None
    except UnreadableMessage:
        return None


def _receive_one(hl7: Hl7, caller: Caller, raw: bytes) -> Answer:
    header = _guess(raw)
    try:
        _require_right(hl7, caller)
        try:
            message = parse(raw)
        except UnreadableMessage as refused:
            unreadable = refused
            return hl7.commits.run(lambda session: _keep_unreadable(hl7, session, caller, raw, unreadable))
        header = header_of(message)
        return _receive_readable(hl7, caller, raw, message)
    except CloudfilmError as refused:
        letter, code = CODES.get(refused.kind, (REJECTED, "207"))
        return _negative(hl7, header, Refusal(letter, code, "MSH", str(refused)))
    except Exception:
        log.exception("a message could not be kept; the sender was asked to send it again")
        return _negative(hl7, header, Refusal(REJECTED, "207", "MSH", "The message could not be kept."))


def _receive_readable(hl7: Hl7, caller: Caller, raw: bytes, message: Message) -> Answer:
    """Keep and process a message; once more where another process was first with the same, or with what it
    says."""
    keep = partial(_keep_and_process, hl7, caller, raw, message)
    refusal: Refusal | None = None
    for _ in range(MOST_TURNS):
        try:
            return hl7.commits.run(partial(keep, refusal=refusal))
        except NotUsable as unusable:  # what it had done is undone with its transaction; the message is kept
            refusal = unusable.refusal
            if isinstance(unusable.__cause__, Forbidden):
                _note_refusal(hl7, caller, message.message_code, unusable.__cause__)
        except (IntegrityError, Overtaken) as clash:
            log.info("a message met another at work, and is taken again: %s", type(clash).__name__)
    log.error("a message of type %s is refused by the database", message.message_code)
    refusal = refusal or Refusal(ERROR, "207", "MSH", NOT_PROCESSED)
    return hl7.commits.run(partial(keep, refusal=refusal))


def _require_right(hl7: Hl7, caller: Caller) -> None:
    try:
        caller.require(SEND)
    except Forbidden as refused:
        _note_refusal(hl7, caller, "message", refused)
        raise


def _note_refusal(hl7: Hl7, caller: Caller, asked: str, refused: Forbidden) -> None:
    note_refusal(hl7.database, hl7.archive.recently, hl7.clock, caller, f"HL7 {asked}", str(refused))


def _negative(hl7: Hl7, header: Header, refusal: Refusal) -> Answer:
    mode = "C" if header.is_enhanced else "A"
    return Answer((acknowledge(header, hl7.clock.now(), refusal, mode=mode),), is_positive=False)


def _guess(raw: bytes) -> Header:
    """What can be told of a header that may not be readable, so that the sender knows what is answered."""
    line = re.split(r"[\r\n]", raw[:2000].decode("latin-1").lstrip(), maxsplit=1)[0]
    if not line.startswith("MSH") or len(line) < 8:
        return Header()
    fields = line.split(line[3])
    get = dict(enumerate(fields, 1)).get
    printable = re.sub(r"[^\x20-\x7e]", "", get(10, ""))
    return Header(
        control_id=printable[:199], version=get(12, "") if VERSION.fullmatch(get(12, "")) else "2.5.1"
    )


def _keep_unreadable(
    hl7: Hl7, session: Session, caller: Caller, raw: bytes, unreadable: UnreadableMessage
) -> Answer:
    header = _guess(raw)
    digest = hashlib.sha256(raw).hexdigest()
    refusal = Refusal(REJECTED, unreadable.code, unreadable.location, str(unreadable))
    known = session.scalar(
        select(Hl7Message.id).where(Hl7Message.sender == "", Hl7Message.digest == digest).limit(1)
    )
    if known is None and raw.strip():
        values = _values(hl7, caller, raw, digest)
        failed = {"control_id": header.control_id, "error": refusal.reason, "state": "failed"}
        session.connection().execute(_KEEP, values | failed)
    return _negative(hl7, header, refusal)


def _values(hl7: Hl7, caller: Caller, raw: bytes, digest: str) -> dict[str, Any]:
    """The columns of a message that is known by its bytes alone."""
    return {
        "sender": "",
        "node": caller.principal.id[:64],
        "institution": caller.principal.institution,
        "control_id": "",
        "digest": digest,
        "message_type": "",
        "version": "",
        "charset": "",
        "repairs": "",
        "sealed": hl7.keys.seal_bytes(raw, SEALED),
        "size_bytes": len(raw),
        "received_at": hl7.clock.now(),
        "processed_at": None,
        "state": "received",
        "error": "",
        "answer": b"",
        "documents": "",
    }


def _keep_and_process(
    hl7: Hl7, caller: Caller, raw: bytes, message: Message, session: Session, refusal: Refusal | None = None
) -> Answer:
    """refusal: why it cannot be used, if that is known; then it is only kept. Raises NotUsable."""
    digest = hashlib.sha256(raw).hexdigest()
    header = header_of(message)
    sender, control_id = message.sender[:200], message.control_id[:199]
    connection = session.connection()
    earlier = connection.execute(_EARLIER, {"from": sender, "number": control_id}).all()
    repeat = next((row for row in earlier if row.digest == digest), None)
    if repeat is not None:
        return Answer(_unpack(hl7.keys.open_bytes(repeat.answer, ANSWER)), repeat.state in ("done", "kept"))
    refusal = refusal or _refusal_of_header(message)
    in_turn, expected = take_number(hl7, session, message)
    if not in_turn:
        refusal = Refusal(REJECTED, "100", "MSH-13", f"The sequence number {expected} is expected.")
        return _answer(hl7, header, message, Done(), refusal, expected)
    done = process(hl7, session, caller, message) if refusal is None else Done()
    answer = _answer(hl7, header, message, done, refusal, expected)
    again = ("another message had this control id",) if earlier and control_id else ()
    values = _values(hl7, caller, raw, digest) | {
        "sender": sender,
        "control_id": control_id,
        "message_type": f"{message.message_code}^{message.trigger_event}"[:16],
        "version": message.msh.get(12)[:16],
        "charset": message.charset,
        "repairs": "; ".join((*message.repairs, *again)),
        "processed_at": hl7.clock.now(),
        "answer": hl7.keys.seal_bytes(_pack(answer.messages), ANSWER),
        **_outcome(done, refusal),
    }
    connection.execute(_KEEP, values)
    return answer


# Built once: these run for every message, and building a statement costs more than running it.
_MESSAGE = table_of(Hl7Message)
_EARLIER = select(_MESSAGE.c.digest, _MESSAGE.c.answer, _MESSAGE.c.state).where(
    _MESSAGE.c.sender == bindparam("from"), _MESSAGE.c.control_id == bindparam("number")
)
_KEEP = insert(_MESSAGE)


def _outcome(done: Done, refusal: Refusal | None) -> dict[str, str]:
    """The columns that say what became of a message."""
    return {
        "state": "failed" if refusal else "kept" if done.is_kept_only else "done",
        "error": refusal.reason if refusal else "",
        "documents": " ".join(done.documents),
    }


class NotUsable(CloudfilmError):
    """A message that was read and cannot be used; carries the answer to it."""

    kind = Kind.UNPROCESSABLE

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


def process(hl7: Hl7, session: Session, caller: Caller, message: Message) -> Done:
    """Do what a message says. Raises NotUsable; the caller then undoes what was done until there."""
    handler = handler_of(message.message_code, message.trigger_event)
    if handler is None:
        reason = "This message type and event are not supported."
        raise NotUsable(Refusal(REJECTED, "200", "MSH-9", reason))
    try:
        work = Work(hl7, session, caller, message)
        with span(f"HL7 {message.message_code}^{message.trigger_event}"):
            done = handler.handle(work)
            tell(work, done.documents)
        return done
    except ContentError as refused:
        raise NotUsable(Refusal(ERROR, refused.code, refused.location, str(refused))) from None
    except CloudfilmError as refused:
        if refused.kind in (Kind.UNAVAILABLE, Kind.EXHAUSTED):
            raise
        letter, code = CODES.get(refused.kind, (ERROR, "207"))
        raise NotUsable(Refusal(letter, code, "MSH", str(refused))) from refused
    except (OperationalError, IntegrityError):  # the database's own trouble, or somebody was first
        raise
    except Exception:
        log.exception("a message of type %s could not be processed", handler.code)
        raise NotUsable(Refusal(ERROR, "207", "MSH", NOT_PROCESSED)) from None


def _refusal_of_header(message: Message) -> Refusal | None:
    """What is wrong with MSH itself (2.9.2.1 a: unsupported type, processing id or version)."""
    msh = message.msh
    version = msh.get(12)
    if not message.message_code:
        return Refusal(REJECTED, "101", "MSH-9", "The message type is missing.")
    if not message.control_id:
        return Refusal(REJECTED, "101", "MSH-10", "The message control id is missing.")
    if version and not VERSION.fullmatch(version):
        return Refusal(REJECTED, "203", "MSH-12", "This version is not supported; 2.1 to 2.9 are.")
    if msh.get(11).upper() not in PROCESSING_IDS:
        return Refusal(REJECTED, "202", "MSH-11", "This processing id is not supported.")
    if message.message_code in NOT_ANSWERED:
        return None
    if handler_of(message.message_code, message.trigger_event) is None:
        return Refusal(REJECTED, "200", "MSH-9", "This message type and event are not supported.")
    return None


def _answer(
    hl7: Hl7,
    header: Header,
    message: Message,
    done: Done,
    refusal: Refusal | None,
    expected: int | None = None,
) -> Answer:
    now = hl7.clock.now()
    if message.message_code in NOT_ANSWERED:
        return Answer()
    if not header.is_enhanced:
        whole = acknowledge(
            header, now, refusal, reply=done.reply, reply_type=done.reply_type, expected=expected
        )
        return Answer((whole,), refusal is None)
    answers = []
    rejected = refusal if refusal is not None and refusal.letter == REJECTED else None
    if is_wanted(header.accept, rejected):
        answers.append(acknowledge(header, now, rejected, mode="C", expected=expected))
    if rejected is None and is_wanted(header.application_accept, refusal):
        answers.append(acknowledge(header, now, refusal, reply=done.reply, reply_type=done.reply_type))
    return Answer(tuple(answers), refusal is None)


def _pack(messages: tuple[bytes, ...]) -> bytes:
    return b"\x0b".join(messages) if messages else b"\x0b"


def _unpack(packed: bytes) -> tuple[bytes, ...]:
    return tuple(message for message in packed.split(b"\x0b") if message)


def replay(hl7: Hl7, caller: Caller, message_id: int) -> str:
    """Process a kept message again, as after a fault was mended. Returns its new state.

    Raises NoSuchMessage.
    """
    with hl7.database.transaction() as session:
        row = session.get(Hl7Message, message_id, with_for_update=True)
        if row is None:
            raise NoSuchMessage(message_id)
        raw = hl7.keys.open_bytes(row.sealed, SEALED)
        try:
            message = parse(raw)
        except UnreadableMessage as unreadable:
            row.error = str(unreadable)
            return row.state
        try:
            with session.begin_nested():
                outcome = _outcome(process(hl7, session, caller, message), None)
        except NotUsable as unusable:
            outcome = _outcome(Done(), unusable.refusal)
        except IntegrityError:
            outcome = _outcome(Done(), Refusal(ERROR, "207", "MSH", NOT_PROCESSED))
        row.state, row.error, row.documents = outcome["state"], outcome["error"], outcome["documents"]
        row.processed_at = hl7.clock.now()
        return row.state


def set_aside(hl7: Hl7, caller: Caller, message_id: int) -> None:
    """Take a failed message off the list of dead letters; it stays kept. Raises NoSuchMessage."""
    caller.require(SEND)
    with hl7.database.transaction() as session:
        changed = session.execute(
            update(Hl7Message)
            .where(Hl7Message.id == message_id, Hl7Message.state == "failed")
            .values(state="set-aside")
            .returning(Hl7Message.id)
        ).first()
    if changed is None:
        raise NoSuchMessage(message_id)


class NoSuchMessage(CloudfilmError):
    """There is no such message, or it is in another state."""

    kind = Kind.NOT_FOUND

    def __init__(self, message_id: int) -> None:
        super().__init__(f"Message {message_id} was not found, or is not in the state for this.")
