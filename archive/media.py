"""Objects for media: a ZIP file with the names that PS3.10 allows, and a DICOMDIR where it is wanted.

The file is written as it is sent; of each object only what its directory record needs is kept.
"""

import io
import zipfile
from collections.abc import Iterable, Iterator

from archive.dicomdir import KEYS, MediaFile, make_dicomdir
from archive.documents import parse_marked
from archive.retrieve import StoredInstance, instance_document
from archive.room import Archive

RECORD_TAGS = frozenset(tag for tags in KEYS.values() for tag in tags) | {"7FE00010"}
FOLDER = "DICOM"


class _Pipe(io.RawIOBase):
    """Where the ZIP writer writes; what it wrote is taken away piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        """Whether it takes bytes: always."""
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        """Take bytes."""
        self._pieces.append(bytes(data))
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        """How much was written."""
        return self._size

    def take(self) -> bytes:
        """What was written since the last time."""
        data = b"".join(self._pieces)
        self._pieces = []
        return data


def zip_of(
    archive: Archive, files: Iterator[tuple[StoredInstance, str, Iterable[bytes]]], with_dicomdir: bool
) -> Iterator[bytes]:
    """Objects, each with its transfer syntax and its bytes, as a ZIP file that is not compressed further."""
    pipe = _Pipe()
    records: list[MediaFile] = []
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED, allowZip64=True) as out:
        for number, (stored, transfer_syntax_uid, content) in enumerate(files, 1):
            components = (FOLDER, f"{(number - 1) // 1000:08d}", f"{number:08d}")
            name = "/".join(components) if with_dicomdir else _name(stored)
            with out.open(_entry(name), "w", force_zip64=True) as file:
                for piece in content:
                    file.write(piece)
                    yield pipe.take()
            if with_dicomdir:
                document = parse_marked(instance_document(archive, stored))
                attributes = {tag: value for tag, value in document.items() if tag in KEPT}
                records.append(
                    MediaFile(
                        components,
                        stored.sop_class_uid,
                        stored.sop_instance_uid,
                        transfer_syntax_uid,
                        attributes,
                    )
                )
        if with_dicomdir:
            with out.open(_entry("DICOMDIR"), "w") as file:
                file.write(make_dicomdir(records))
    yield pipe.take()


KEPT = RECORD_TAGS | {"0020000D", "0020000E"}


def _name(stored: StoredInstance) -> str:
    return f"{stored.study_instance_uid}/{stored.series_instance_uid}/{stored.sop_instance_uid}.dcm"


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry with a fixed time, so that the same study makes the same file."""
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
