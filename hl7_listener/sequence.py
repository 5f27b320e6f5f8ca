"""The sequence number protocol (chapter 2.10.1), for the senders that keep it.

MSH-13 counts a sender's messages. The expected number comes next; 0 asks which one that is, -1 starts anew.
Any other is refused, with the expected one in MSA-4, so that the sender can send what is missing.
"""

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, Session, mapped_column

from hl7_listener.er7 import Message
from hl7_listener.room import Hl7
from kernel.database import Base


class Hl7Sequence(Base):
    """The number that is expected next of a sender."""

    __tablename__ = "hl7_sequence"

    sender: Mapped[str] = mapped_column(String(200), primary_key=True)
    expected: Mapped[int] = mapped_column(BigInteger, default=0)  # 0: whatever comes


def take_number(hl7: Hl7, session: Session, message: Message) -> tuple[bool, int | None]:
    """Whether a message comes in its turn, and the number to tell in MSA-4; None where nobody counts."""
    text = message.msh.get(13)
    if message.msh.get(3) not in hl7.settings.sequence_numbers or not text:
        return True, None
    row = session.get(Hl7Sequence, message.sender[:200], with_for_update=True)
    expected = row.expected if row is not None else 0
    if not text.removeprefix("-").isdecimal() or len(text) > 15:
        return False, expected
    number = int(text)
    if number > 0 and expected and number != expected:
        return False, expected
    following = {0: expected, -1: 0}.get(number, number + 1)
    if row is None:
        session.add(Hl7Sequence(sender=message.sender[:200], expected=following))
    else:
        row.expected = following
    session.flush()
    return True, following
