"""Blobs in an S3-compatible object store.

An object is spooled here until it is whole, for its header is read before it is kept; then it goes up, in
parts when it is large, each part with a checksum that the server proves. The upload begins as soon as no more
bytes come, so a batch's uploads run beside each other and beside the reading of headers; `commit` waits for
its end. An upload that a crash cut off leaves parts that no object names: let the bucket's own lifecycle rule
abort them (docs/operations.md).

Reads are ranged GETs. obstore tries again by itself when the server is busy or a connection breaks.
"""

import io
import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import SplitResult, parse_qs

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store as Bucket

from archive.blobs.disk import refusal
from archive.blobs.store import BlobInfo, BlobNotFound, StorageUnavailable
from kernel.errors import InvalidSetting

IN_MEMORY_BYTES = 8388608  # a larger object is spooled to a file without a name
PART_BYTES = 8388608
UPLOADS_AT_ONCE = 16
GIVE_UP_AFTER = timedelta(seconds=30)
OPTIONS = frozenset({"endpoint", "region", "credentials"})


class S3Store:
    """A bucket, or what stands in it below a prefix."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._uploads = ThreadPoolExecutor(UPLOADS_AT_ONCE, "s3-upload")

    @classmethod
    def at(cls, url: SplitResult, setting: str) -> "S3Store":
        """The store that `s3://bucket/prefix?endpoint=https://host&region=r&credentials=/file.json` names.

        The credentials file holds `{"access_key": ..., "secret_key": ...}`; without one the machine's own are
        taken (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or its instance role). Raises InvalidSetting.
        """
        options = {name: values[-1] for name, values in parse_qs(url.query).items()}
        unknown = options.keys() - OPTIONS
        if unknown or not url.netloc:
            raise InvalidSetting(
                setting, url.geturl(), f"use s3://bucket/prefix with {', '.join(sorted(OPTIONS))}"
            )
        config: dict[str, Any] = {
            "region": options.get("region", "us-east-1"),
            "checksum_algorithm": "SHA256",
        }
        endpoint = options.get("endpoint", "")
        if endpoint:
            config["endpoint"] = endpoint
        config |= _credentials(options.get("credentials", ""), setting)
        return cls(
            Bucket(
                url.netloc,
                prefix=url.path.strip("/") or None,
                config=config,  # type: ignore[arg-type]
                client_options={"allow_http": endpoint.startswith("http://")},
                retry_config={"max_retries": 8, "retry_timeout": GIVE_UP_AFTER},
            )
        )

    def create(self, key: str) -> "S3Writer":
        """Begin a new object."""
        return S3Writer(self._bucket, self._uploads, key)

    def open(self, key: str) -> "S3Reader":
        """An object to read; whether it is there shows at the first read."""
        return S3Reader(self._bucket, key)

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""
        try:
            obstore.delete(self._bucket, key)
        except (NotFoundError, FileNotFoundError):
            pass
        except BaseError as failure:
            raise _unavailable(failure) from failure

    def list(self) -> Iterator[BlobInfo]:
        """All objects, in no order."""
        try:
            for batch in obstore.list(self._bucket, chunk_size=1000):
                for each in batch:
                    yield BlobInfo(each["path"], each["size"], each["last_modified"])
        except BaseError as failure:
            raise _unavailable(failure) from failure

    def check(self) -> None:
        """Raise StorageUnavailable when the server does not answer or refuses us."""
        try:
            obstore.head(self._bucket, "readiness")
        except (NotFoundError, FileNotFoundError):
            pass  # it looked
        except BaseError as failure:
            raise _unavailable(failure) from failure

    def free_bytes(self) -> int | None:
        """A bucket has no bound of its own."""
        return None


class S3Writer:
    """A new object: spooled, then uploaded."""

    def __init__(self, bucket: Bucket, uploads: ThreadPoolExecutor, key: str) -> None:
        self.key = key
        self._bucket = bucket
        self._uploads = uploads
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._upload: Future[None] | None = None

    def write(self, data: bytes) -> None:
        """Append bytes. Raises StorageFull when the spool's disk is full."""
        try:
            if self._file is None and len(self._memory) + len(data) > IN_MEMORY_BYTES:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the writer
                self._write_all(self._memory)
                self._memory = bytearray()
            if self._file is None:
                self._memory += data
            else:
                self._write_all(data)
        except OSError as failure:
            raise refusal(failure) from failure

    def _write_all(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        while view and self._file is not None:
            view = view[self._file.write(view) :]

    def finish(self) -> None:
        """No more bytes come: begin to upload."""
        if self._upload is None:
            self._upload = self._uploads.submit(self._put)

    def _put(self) -> None:
        # A fresh description of the nameless file, so that its offset is not shared with who reads it.
        body = (
            io.BytesIO(self._memory) if self._file is None else Path(f"/proc/self/fd/{self._file.fileno()}")
        )
        obstore.put(self._bucket, self.key, body, chunk_size=PART_BYTES, max_concurrency=4)

    def begin_commit(self) -> None:
        """What was finished goes up already."""
        self.finish()

    def commit(self, synced: set[str]) -> None:
        """Wait until the server has acknowledged the whole object. Raises StorageUnavailable."""
        self.finish()
        try:
            if self._upload is not None:
                self._upload.result()
        except (BaseError, FileNotFoundError) as failure:
            raise _unavailable(failure) from failure
        finally:
            self._close()

    def discard(self) -> None:
        """Leave nothing behind: what has gone up already is removed again."""
        if self._upload is not None and not self._upload.cancel():
            try:
                self._upload.result()
                obstore.delete(self._bucket, self.key)
            except (BaseError, FileNotFoundError):
                pass  # the sweeper finds it
        self._close()

    def reader(self) -> "SpoolReader":
        """Read back what was written so far."""
        return SpoolReader(self._memory, self._file)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class SpoolReader:
    """What an S3Writer holds, at any offset."""

    def __init__(self, memory: bytearray, file: BinaryIO | None) -> None:
        self._memory = memory
        self._descriptor = -1 if file is None else os.dup(file.fileno())

    def pread(self, length: int, offset: int, /) -> bytes:
        """`length` bytes at `offset`, fewer only at the end."""
        if self._descriptor < 0:
            return bytes(self._memory[offset : offset + length])
        return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        """Give back the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class S3Reader:
    """An object, read by ranged GETs."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket = bucket
        self._key = key

    def pread(self, length: int, offset: int, /) -> bytes:
        """`length` bytes at `offset`, fewer only at the end. Raises BlobNotFound or StorageUnavailable."""
        try:
            return bytes(obstore.get_range(self._bucket, self._key, start=offset, length=length))
        except (NotFoundError, FileNotFoundError):
            raise BlobNotFound(self._key) from None
        except BaseError as failure:
            raise _unavailable(failure) from failure

    def close(self) -> None:
        """Nothing is held between reads."""


def _credentials(path: str, setting: str) -> dict[str, str]:
    if not path:
        return {}
    try:
        found = json.loads(Path(path).read_text("utf-8"))
        return {"access_key_id": str(found["access_key"]), "secret_access_key": str(found["secret_key"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidSetting(setting, path, "write a JSON file with access_key and secret_key") from None


def _unavailable(failure: Exception) -> StorageUnavailable:
    if isinstance(failure, NotFoundError | FileNotFoundError):
        return StorageUnavailable("the object store has no such bucket: make it, or mend its name in the URL")
    if isinstance(failure, PermissionDeniedError | UnauthenticatedError):
        return StorageUnavailable("the object store refuses our credentials")
    return StorageUnavailable("the object store does not answer as it should")
