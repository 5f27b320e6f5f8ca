"""A small HTTP/1.1 client on asyncio: one connection, kept alive, as little work a request as Python allows,
so that hundreds of them fit beside the server that is measured."""

import asyncio
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(slots=True)
class Answer:
    """Status and body."""

    status: int
    body: bytes


class Connection:
    """One connection to a server."""

    def __init__(self, base: str, headers: dict[str, str], trust: ssl.SSLContext | None = None) -> None:
        url = urlsplit(base)
        self._host, self._port = (
            url.hostname or "localhost",
            url.port or (443 if url.scheme == "https" else 80),
        )
        self._path = url.path
        self._tls = trust if url.scheme == "https" else None
        self._head = "".join(
            f"{name}: {value}\r\n" for name, value in {"Host": url.netloc, **headers}.items()
        )
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, path: str, accept: str = "*/*") -> Answer:
        """GET a path below the base. Raises OSError or asyncio.IncompleteReadError."""
        fresh = self._writer is None or self._writer.is_closing()
        try:
            return await self._get(path, accept)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            if fresh:
                raise
            return await self._get(path, accept)  # the server had closed an idle connection, as it may

    async def _get(self, path: str, accept: str) -> Answer:
        if self._writer is None or self._reader is None or self._writer.is_closing():
            self._reader, self._writer = await asyncio.open_connection(
                self._host, self._port, ssl=self._tls, limit=1 << 20
            )
        self._writer.write(
            f"GET {self._path}{path} HTTP/1.1\r\n{self._head}Accept: {accept}\r\n\r\n".encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        status = int(lines[0].split(" ", 2)[1])
        if fields.get("transfer-encoding", "") == "chunked":
            body = await self._chunks(self._reader)
        else:
            body = await self._reader.readexactly(int(fields.get("content-length", "0")))
        if fields.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, body)

    @staticmethod
    async def _chunks(reader: asyncio.StreamReader) -> bytes:
        pieces = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            pieces.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return b"".join(pieces)

    def close(self) -> None:
        """Give the connection up."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
