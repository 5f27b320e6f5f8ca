"""The bundle that the terminology room's functions need. Made once in `cloudfilm.rooms`."""

from dataclasses import dataclass, field

from kernel.clock import Clock
from kernel.database import Database
from records.room import Records
from terminology.cache import Cache


@dataclass(frozen=True, slots=True)
class Terminology:
    """The room of code systems, value sets and concept maps."""

    database: Database
    clock: Clock
    records: Records
    cache: Cache = field(default_factory=Cache)
