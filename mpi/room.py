"""The bundle that the index's functions need. Made once in `cloudfilm.rooms`."""

from dataclasses import dataclass, field

from kernel.clock import Clock
from kernel.crypto import KeyRing
from kernel.database import Database
from mpi.scoring import Scorer
from mpi.weights import default_weights
from records.room import Records


@dataclass(frozen=True, slots=True)
class Mpi:
    """The room of persons."""

    database: Database
    clock: Clock
    keys: KeyRing
    records: Records
    scorer: Scorer = field(default_factory=lambda: Scorer(default_weights()))
