"""Series metadata bundles: the answer to `/series/{uid}/metadata`, made once when a study is at rest.

A bundle is the DICOM JSON array of the series' instances with 0x01 for the base URL, deflated and sealed
in the series' row. A process that has opened one keeps the finished, gzip-encoded answer for its base URL, so
that a hot read hands over bytes.
"""

import gzip
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from archive.documents import at_base, document_bytes
from archive.model import Instance, Series
from archive.room import Archive
from kernel.database import table_of
from kernel.writes import write_all

CONTEXT = "series.bundle"
LEVEL = 6
PAGE = 500


def instance_documents(archive: Archive, session: Session, series_id: int) -> Iterator[bytes]:
    """The DICOM JSON of each instance of a series, in the order of instance numbers."""
    order = Instance.instance_number.asc().nulls_last(), Instance.id
    ids = session.scalars(select(Instance.id).where(Instance.series_id == series_id).order_by(*order)).all()
    for at in range(0, len(ids), PAGE):
        page = select(Instance.document).where(Instance.id.in_(ids[at : at + PAGE])).order_by(*order)
        for stored in session.scalars(page):
            yield document_bytes(archive.blobs.keys, stored)


def draw_bundle(archive: Archive, series_id: int) -> dict[str, Any] | None:
    """The bundle of a series and the revision that it is drawn from; None for a series that is gone."""
    with archive.database.snapshot() as session:
        revision = session.scalar(select(Series.revision).where(Series.id == series_id))
        if revision is None:
            return None
        text = b"[" + b",".join(instance_documents(archive, session, series_id)) + b"]"
    sealed = archive.blobs.keys.seal_bytes(zlib.compress(text, LEVEL), CONTEXT)
    return {"drawn_of": series_id, "drawn_from": revision, "drawn": sealed}


def keep_bundles(session: Session, drawn: Sequence[dict[str, Any]]) -> None:
    """Keep bundles, but for those of series that moved on meanwhile."""
    write_all(session.connection(), [(_KEEP, drawn)])


_SERIES = table_of(Series)
_KEEP = (
    update(_SERIES)
    .where(_SERIES.c.id == bindparam("drawn_of"), _SERIES.c.revision == bindparam("drawn_from"))
    .values(bundle=bindparam("drawn"), bundle_revision=bindparam("drawn_from"))
)


class EncodedBundles:
    """Finished answers of this process, by series, revision and base URL; the oldest go first."""

    def __init__(self, most_bytes: int = 64 * 1024 * 1024) -> None:
        self._most_bytes = most_bytes
        self._held: OrderedDict[tuple[int, int, str], bytes] = OrderedDict()
        self._size_bytes = 0
        self._lock = threading.Lock()

    def get(self, series_id: int, revision: int, base: str) -> bytes | None:
        """The gzip-encoded answer, if it is held."""
        return self._held.get((series_id, revision, base))

    def put(self, series_id: int, revision: int, base: str, encoded: bytes) -> None:
        """Hold an answer."""
        with self._lock:
            self._size_bytes += len(encoded) - len(self._held.pop((series_id, revision, base), b""))
            self._held[(series_id, revision, base)] = encoded
            while self._size_bytes > self._most_bytes:
                self._size_bytes -= len(self._held.popitem(last=False)[1])


def encoded_bundle(
    archive: Archive, held: EncodedBundles, series_id: int, revision: int, base: str
) -> bytes | None:
    """The finished answer for a series at rest, gzip-encoded; None when it has none of this revision."""
    ready = held.get(series_id, revision, base)
    if ready is not None:
        return ready
    with archive.database.snapshot() as session:
        sealed = session.scalar(
            select(Series.bundle).where(Series.id == series_id, Series.bundle_revision == revision)
        )
    if sealed is None:
        return None
    text = zlib.decompress(archive.blobs.keys.open_bytes(sealed, CONTEXT))
    encoded = gzip.compress(at_base(text, base), LEVEL, mtime=0)
    held.put(series_id, revision, base, encoded)
    return encoded
