"""The bundle that the archive's functions need. Made once in `cloudfilm.rooms`."""

from dataclasses import dataclass, field

from access.audit import Recently
from archive.blobs.sealed import Blobs
from archive.render_cache import RenderCache
from kernel.clock import Clock
from kernel.database import Database, GroupCommit
from kernel.settings import ArchiveSettings
from mpi.room import Mpi


@dataclass(frozen=True, slots=True)
class Archive:
    """The room of images."""

    database: Database
    blobs: Blobs
    mpi: Mpi
    clock: Clock
    settings: ArchiveSettings
    institution: str  # owns what arrives from a caller without an institution
    commits: GroupCommit  # the ingest path's shared transactions
    cache: RenderCache
    recently: Recently = field(default_factory=Recently)
