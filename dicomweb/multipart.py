"""Multipart/related bodies (PS3.18 8.6, RFC 2046, RFC 2387): read as a stream, written as a stream.

A part is read without being held whole, whatever its size, and whatever the pieces in which the network
brings it. Lines may end in CR LF or LF alone, as some senders have it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

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


class Part:
    """One part: its headers, names in lower case, and its content as a file that is read once."""

    def __init__(self, headers: dict[str, str], reader: "MultipartReader") -> None:
        self.headers = headers
        self._reader = reader
        self._rest = b""
        self._ended = False

    def read(self, size: int = PIECE) -> bytes:
        """Up to `size` bytes; nothing at the end. Raises InvalidMultipart when the body ends before the
        part."""
        if not self._rest and not self._ended:
            piece = self._reader.content()
            self._ended = piece is None
            self._rest = piece or b""
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def drain(self) -> None:
        """Pass over what is left."""
        while self.read():
            pass


class MultipartReader:
    """Reads the parts of a body one after the other; a part must be read, or is passed over, before the
    next."""

    def __init__(self, stream: BinaryIO, boundary: str) -> None:
        if not BOUNDARY.fullmatch(boundary) or boundary.endswith(" "):
            raise InvalidMultipart("the boundary parameter is missing or not allowed")
        self._stream = stream
        self._delimiter = b"--" + boundary.encode()
        self._marker = b"\n" + self._delimiter
        self._buffer = bytearray(b"\n")  # so that a delimiter on the first line is found like any other
        self._at_end = False

    def parts(self) -> Iterator[Part]:
        """The parts in order. Raises InvalidMultipart."""
        while self.content() is not None:  # the preamble
            pass
        while self._has_part():
            part = Part(self._headers(), self)
            yield part
            part.drain()

    def content(self) -> bytes | None:
        """The next piece before the next delimiter; None at the delimiter, which is then passed over."""
        while True:
            found = self._buffer.find(self._marker)
            if found >= 0:
                stop = found - 1 if found and self._buffer[found - 1] == CARRIAGE_RETURN else found
                if stop:
                    return self._take(stop)
                del self._buffer[: found + len(self._marker)]
                return None
            safe = len(self._buffer) - len(self._marker) - 1  # what cannot be the beginning of a delimiter
            if safe > PIECE // 2:
                return self._take(safe)
            if not self._fill():
                raise InvalidMultipart("it ends before the closing boundary")

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _fill(self) -> bool:
        if self._at_end:
            return False
        piece = self._stream.read(PIECE)
        self._at_end = not piece
        self._buffer += piece
        return bool(piece)

    def _has_part(self) -> bool:
        """After a delimiter: whether a part follows, or it was the closing one."""
        while len(self._buffer) < 2 and self._fill():
            pass
        return bool(self._buffer) and not self._buffer.startswith(b"--")

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
        while (end := self._buffer.find(b"\n", 0, most)) < 0:
            if len(self._buffer) >= most:
                raise InvalidMultipart("a part's headers are too long")
            if not self._fill():
                raise InvalidMultipart("it ends within a part's headers")
        return self._take(end + 1)


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
