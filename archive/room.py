"""The bundle that the archive's functions need. Made once in `cloudfilm.rooms`."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from access.audit import Recently
from archive.blobs.sealed import Blobs
from archive.render_cache import RenderCache
from kernel.clock import Clock
from kernel.database import Database, GroupCommit
from kernel.settings import ArchiveSettings
from kernel.together import Together
from mpi.room import Mpi

if TYPE_CHECKING:
    from archive.placing import Arrival, Ingested


@dataclass(frozen=True, slots=True)
class Archive:
    """The room of images."""

    database: Database
    blobs: Blobs
    mpi: Mpi
    clock: Clock
    settings: ArchiveSettings
    institution: str  # owns what arrives from a caller without an institution
    arrivals: "Together[Arrival, Ingested]"  # what is received at once is placed at once
    commits: GroupCommit  # other small writes
    cache: RenderCache
    recently: Recently = field(default_factory=Recently)
