"""Multipart/related bodies (PS3.18 8.6, RFC 2046, RFC 2387): read as a stream, written as a stream.

A part is read without being held whole, whatever its size, and whatever the pieces in which the network
brings it: each byte is copied once, from the one buffer that a body is received into to where it goes. Lines
may end in CR LF or LF alone, as some senders have it.
"""

import io
import re
from collections.abc import Iterable, Iterator

from typing_extensions import Buffer

from archive.blobs.sealed import Readinto
from kernel.clock import new_secret
from kernel.errors import CloudfilmError, Kind

PIECE = 262144
MOST_HEADER_BYTES = 16384
CARRIAGE_RETURN = 13
BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,70}")


class InvalidMultipart(CloudfilmError):
    """A body that does not follow the multipart syntax, or ends in the middle."""

    kind = Kind.INVALID

    def __init__(self, reason: str) -> None:
        super().__init__(f"The multipart body cannot be read: {reason}.")


class Part(io.RawIOBase):
    """One part: its headers, names in lower case, and its content as a file that is read once."""

    def __init__(self, headers: dict[str, str], reader: "MultipartReader") -> None:
        super().__init__()
        self.headers = headers
        self._reader = reader
        self._rest = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        """Whether it gives bytes: always."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Read into a buffer; nothing at the end. Raises InvalidMultipart when the body ends before the
        part."""
        view = memoryview(buffer).cast("B")
        if not self._rest and not self._ended:
            piece = self._reader.content()
            self._ended = piece is None
            self._rest = memoryview(b"") if piece is None else piece
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def drain(self) -> None:
        """Pass over what is left."""
        self._rest = memoryview(b"")
        while not self._ended:
            self._ended = self._reader.content() is None


class MultipartReader:
    """Reads the parts of a body one after the other; a part must be read, or is passed over, before the
    next."""

    def __init__(self, stream: Readinto, boundary: str) -> None:
        if not BOUNDARY.fullmatch(boundary) or boundary.endswith(" "):
            raise InvalidMultipart("the boundary parameter is missing or not allowed")
        self._stream = stream
        self._delimiter = b"--" + boundary.encode()
        self._marker = b"\n" + self._delimiter
        # One buffer for as long as it lasts; what is held of the body stands in it from `_start` to `_end`.
        self._buffer = bytearray(PIECE)
        self._view = memoryview(self._buffer)
        self._buffer[:1] = b"\n"  # so that a delimiter on the first line is found like any other
        self._start, self._end = 0, 1
        self._looked = 0  # no marker begins before this
        self._at_end = False

    def parts(self) -> Iterator[Part]:
        """The parts in order. Raises InvalidMultipart."""
        while self.content() is not None:  # the preamble
            pass
        while self._has_part():
            part = Part(self._headers(), self)
            yield part
            part.drain()

    def content(self) -> memoryview | None:
        """The next piece before the next delimiter, which holds until the next call; None at the delimiter,
        which is then passed over."""
        while True:
            found = self._buffer.find(self._marker, max(self._start, self._looked), self._end)
            if found >= 0:
                self._looked = found
                ends_line = found > self._start and self._buffer[found - 1] == CARRIAGE_RETURN
                stop = found - 1 if ends_line else found
                if stop > self._start:
                    return self._take(stop)
                self._start = found + len(self._marker)
                return None
            self._looked = max(self._start, self._end - len(self._marker) + 1)
            safe = self._looked - 1  # a carriage return before it may belong to a delimiter
            if safe - self._start > PIECE // 2:
                return self._take(safe)
            if not self._fill():
                raise InvalidMultipart("it ends before the closing boundary")

    def _take(self, stop: int) -> memoryview:
        taken = self._view[self._start : stop]
        self._start = stop
        return taken

    def _fill(self) -> bool:
        """Receive more behind what is held, which is moved to the front first."""
        if self._at_end:
            return False
        held = self._end - self._start
        self._view[:held] = self._view[self._start : self._end]
        self._looked = max(0, self._looked - self._start)
        self._start, self._end = 0, held
        received = self._stream.readinto(self._view[held:])
        self._at_end = not received
        self._end += received or 0
        return not self._at_end

    def _has_part(self) -> bool:
        """After a delimiter: whether a part follows, or it was the closing one."""
        while self._end - self._start < 2 and self._fill():
            pass
        return self._end > self._start and not self._buffer.startswith(b"--", self._start, self._end)

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        first, left = True, MOST_HEADER_BYTES
        while True:
            line = self._line(left)
            left -= len(line) + 1
            text = line.strip()
            if first:  # the rest of the delimiter's own line is padding
                first = False
                if text:
                    raise InvalidMultipart("a delimiter line has more on it")
                continue
            if not text:
                return headers
            name, colon, value = text.decode("latin-1").partition(":")
            if not colon:
                raise InvalidMultipart("a part's header has no colon")
            headers[name.strip().lower()] = value.strip()

    def _line(self, most: int) -> bytes:
        while (end := self._buffer.find(b"\n", self._start, min(self._end, self._start + most))) < 0:
            if self._end - self._start >= most:
                raise InvalidMultipart("a part's headers are too long")
            if not self._fill():
                raise InvalidMultipart("it ends within a part's headers")
        return bytes(self._take(end + 1))


def new_boundary() -> str:
    """A boundary that no content holds, for all practical purposes."""
    return f"cloudfilm-{new_secret(18)}"


def write_parts(boundary: str, parts: Iterable[tuple[dict[str, str], Iterable[bytes]]]) -> Iterator[bytes]:
    """A multipart body, piece by piece, from the headers and the content of each part."""
    before = ""  # nothing may stand before the first delimiter: some readers take it for a part
    for headers, content in parts:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        yield f"{before}--{boundary}\r\n{lines}\r\n".encode()
        yield from content
        before = "\r\n"
    yield f"{before}--{boundary}--\r\n".encode()
