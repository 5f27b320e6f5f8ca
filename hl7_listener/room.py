"""The bundle that the HL7 v2 door's functions need, made from the rooms of a process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timezone
from typing import Any

from sqlalchemy.orm import Session

from access.caller import Caller
from access.tokens import Access
from archive.room import Archive
from hl7_listener.data_types import parse_zone
from hl7_listener.er7 import Message, Segment
from hl7_listener.mapping import draw, rows_in_force
from hl7_listener.staff import with_documents
from kernel.clock import Clock
from kernel.crypto import KeyRing
from kernel.database import Database, GroupCommit
from kernel.errors import CloudfilmError, InvalidSetting, Kind
from kernel.settings import MllpSettings, Settings
from mpi.room import Mpi
from records.room import Records


@dataclass(frozen=True, slots=True)
class Hl7:
    """What the door works with."""

    database: Database
    clock: Clock
    keys: KeyRing
    access: Access
    records: Records
    mpi: Mpi
    archive: Archive
    settings: MllpSettings
    commits: GroupCommit
    zone: timezone


def hl7_of(parts: Mapping[type[Any], Any]) -> Hl7:
    """Made once for a process, from its bundles by type. Raises InvalidSetting."""
    settings: MllpSettings = parts[Settings].mllp
    archive: Archive = parts[Archive]
    try:
        zone = parse_zone(settings.utc_offset)
    except ValueError:
        raise InvalidSetting("mllp.utc_offset", settings.utc_offset, "write it as +08:00") from None
    return Hl7(
        archive.database,
        archive.clock,
        parts[KeyRing],
        parts[Access],
        parts[Records],
        parts[Mpi],
        archive,
        settings,
        GroupCommit(archive.database),
        zone,
    )


class ContentError(CloudfilmError):
    """A message that can be read and not used. Names segment and field; `code` is of HL7 table 0357."""

    kind = Kind.UNPROCESSABLE

    def __init__(self, location: str, reason: str, code: str = "101") -> None:
        super().__init__(f"{location}: {reason}")
        self.location = location
        self.code = code


@dataclass(frozen=True, slots=True)
class Work:
    """One message that is being processed, within the transaction that keeps it."""

    hl7: Hl7
    session: Session
    caller: Caller
    message: Message
    unchanged: set[str] = field(default_factory=set)  # documents of which nothing new was said

    @property
    def institution(self) -> str:
        """Who owns what the message brings."""
        return self.caller.principal.institution or self.hl7.records.institution

    def draw(self, resource: str, *segments: Segment) -> dict[str, Any]:
        """The elements of a document that the mapping finds in some segments, and in MSH."""
        rows = rows_in_force(self.session)
        drawn = draw(rows, resource, (self.message.msh, *segments), self.hl7.zone, self.message.msh.get(3))
        return dict(with_documents(self, drawn))


@dataclass(frozen=True, slots=True)
class Done:
    """What a handler did."""

    documents: tuple[str, ...] = ()  # Type/id of what was written
    reply: tuple[str, ...] = ()  # segments after MSA, of a reply that is more than an ACK
    reply_type: str = ""  # MSH-9 of that reply
    is_kept_only: bool = False  # understood in part: the message is kept, and nothing else was done
