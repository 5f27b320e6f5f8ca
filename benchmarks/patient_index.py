"""The patient index that the matching benchmarks fill: one of its own, or one that is kept for other runs."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cloudfilm.models
from cloudfilm.rooms import Rooms, build_rooms
from kernel.database import Base
from kernel.settings import BlobsSettings, DatabaseSettings, Settings


@contextmanager
def patient_index(url: str, keep: Path | None, file: str) -> Iterator[Rooms]:
    """The rooms over it. url: the database, else the SQLite `file`; keep: the folder of that and the keys."""
    assert cloudfilm.models.MODULES
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        database = DatabaseSettings(url=url or f"sqlite:///{folder.absolute()}/{file}")
        blobs = BlobsSettings(url=f"file://{folder.absolute()}/blobs")
        rooms = build_rooms(Settings(data_dir=folder, database=database, blobs=blobs))
        Base.metadata.create_all(rooms.database.engine)
        yield rooms
        rooms.close()
