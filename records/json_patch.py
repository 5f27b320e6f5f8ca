"""JSON Patch on a document (RFC 6902), which keeps numbers as they are written.

A patch is made whole or not at all: the document that is given is left as it is.
"""

import re
from copy import deepcopy
from decimal import Decimal
from typing import Any

from kernel.errors import CloudfilmError, Kind
from records.documents import Written

MOST_OPERATIONS = 1000


class InvalidPatch(CloudfilmError):
    """A patch that cannot be read, or names something that is not there."""

    kind = Kind.INVALID

    def __init__(self, reason: str) -> None:
        super().__init__(f"The patch cannot be made: {reason}.")


class PatchTestFailed(CloudfilmError):
    """A `test` operation whose value is another one (RFC 6902 4.6)."""

    kind = Kind.UNPROCESSABLE

    def __init__(self, path: str) -> None:
        super().__init__(f"The patch's test of {path[:80]} failed; nothing was changed.")


def apply_json_patch(document: dict[str, Any], patch: Any) -> dict[str, Any]:
    """The document after the operations. Raises InvalidPatch or PatchTestFailed."""
    if not isinstance(patch, list) or len(patch) > MOST_OPERATIONS:
        raise InvalidPatch(f"a JSON Patch is a list of at most {MOST_OPERATIONS} operations")
    whole = {"": deepcopy(document)}  # so that the document itself has a place too
    for operation in patch:
        if not isinstance(operation, dict):
            raise InvalidPatch("an operation is an object")
        _apply(whole, operation)
    changed = whole.get("")
    if not isinstance(changed, dict):
        raise InvalidPatch("it leaves no resource")
    return changed


def _apply(whole: dict[str, Any], operation: dict[str, Any]) -> None:
    op, path = operation.get("op"), _pointer(operation.get("path"))
    if op in ("add", "replace", "test") and "value" not in operation:
        raise InvalidPatch(f"{op} needs a value")
    if op == "add":
        _add(whole, path, deepcopy(operation["value"]))
    elif op == "remove":
        _remove(whole, path)
    elif op == "replace":
        parent, key = _place(whole, path)
        _get(parent, key)
        parent[key] = deepcopy(operation["value"])
    elif op == "move":
        origin = _pointer(operation.get("from"))
        if path[: len(origin)] == origin and path != origin:
            raise InvalidPatch("a value cannot be moved into itself")
        _add(whole, path, _remove(whole, origin))
    elif op == "copy":
        _add(whole, path, deepcopy(_get(*_place(whole, _pointer(operation.get("from"))))))
    elif op == "test":
        if not same(_get(*_place(whole, path)), operation["value"]):
            raise PatchTestFailed(str(operation["path"]))
    else:
        raise InvalidPatch(f"there is no operation {str(op)[:20]!r}")


def _pointer(text: Any) -> list[str]:
    """A JSON Pointer (RFC 6901) as keys, the document's own place first."""
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise InvalidPatch("a path is a JSON Pointer such as /name/0")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")]


def _place(whole: Any, path: list[str]) -> tuple[Any, Any]:
    """The object or list that a pointer leads into, and the key in it."""
    at = whole
    for part in path[:-1]:
        at = _get(at, _key(at, part))
    return at, _key(at, path[-1])


def _key(at: Any, part: str) -> Any:
    if isinstance(at, dict):
        return part
    if isinstance(at, list) and part == "-":
        return len(at)
    if isinstance(at, list) and re.fullmatch(r"0|[1-9][0-9]{0,8}", part):
        return int(part)
    raise InvalidPatch(f"there is nothing at {part[:40]!r}")


def _get(at: Any, key: Any) -> Any:
    try:
        return at[key]
    except (KeyError, IndexError):
        raise InvalidPatch(f"there is nothing at {str(key)[:40]!r}") from None


def _add(whole: Any, path: list[str], value: Any) -> None:
    parent, key = _place(whole, path)
    if isinstance(parent, list):
        if key > len(parent):
            raise InvalidPatch(f"the list has no place {key}")
        parent.insert(key, value)
    else:
        parent[key] = value


def _remove(whole: Any, path: list[str]) -> Any:
    parent, key = _place(whole, path)
    value = _get(parent, key)
    del parent[key]
    return value


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; numbers by their value, however they are written."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(each, other[key]) for key, each in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if _is_number(one) and _is_number(other):
        return _number(one) == _number(other)
    return type(one) is type(other) and bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Written) and not isinstance(value, bool)


def _number(value: int | Written) -> Decimal:
    return Decimal(value.text if isinstance(value, Written) else value)
