"""The bundle that the index's functions need. Made once in `cloudfilm.rooms`."""

from dataclasses import dataclass

from kernel.clock import Clock
from kernel.crypto import KeyRing
from kernel.database import Database
from records.room import Records


@dataclass(frozen=True, slots=True)
class Mpi:
    """The room of persons."""

    database: Database
    clock: Clock
    keys: KeyRing
    records: Records
