"""The DICOM JSON document of an instance, as its row keeps it: deflated, then sealed.

It has every attribute of the object but its bulk data, whose BulkDataURI begins with the byte 0x01 where the
service's base URL goes (PS3.18 F.2.2), so that nothing but a replacement of bytes is needed on the way out.
"""

import zlib
from typing import Any

import orjson

from kernel.crypto import KeyRing

CONTEXT = "instance.document"
LEVEL = 6


def close_document(keys: KeyRing, document: bytes) -> bytes:
    """Deflate and seal."""
    return keys.seal_bytes(zlib.compress(document, LEVEL), CONTEXT)


def document_bytes(keys: KeyRing, stored: bytes) -> bytes:
    """The JSON as bytes, with 0x01 for the base URL. Raises DamagedBlob."""
    return zlib.decompress(keys.open_bytes(stored, CONTEXT))


def open_document(keys: KeyRing, stored: bytes) -> dict[str, Any]:
    """The JSON as a value; the base marker stands in it as U+0001. Raises DamagedBlob."""
    return parse_marked(document_bytes(keys, stored))


def parse_marked(text: bytes) -> dict[str, Any]:
    """Parse JSON bytes that may carry the base marker."""
    parsed: dict[str, Any] = orjson.loads(text.replace(b"\x01", b"\\u0001"))
    return parsed


def dump_marked(value: object) -> bytes:
    """JSON bytes with the base marker as the byte 0x01, from a value in which it is U+0001."""
    return orjson.dumps(value).replace(b"\\u0001", b"\x01")


def at_base(text: bytes, base: str) -> bytes:
    """The same with the base URL of this request in place of the marker."""
    return text.replace(b"\x01", base.encode())
