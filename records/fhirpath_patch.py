"""FHIRPath Patch on a document (R4 3.1.0.7.2): Parameters with add, insert, delete, replace and move.

A path is steps, indexes, `where`, `first`, `last`, `single`, `ofType` and `extension`, which lead to places
in the document; the condition of a `where` may be any FHIRPath.
"""

import re
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import fhirpathpy

from records.definitions import definitions
from records.documents import plain
from records.json_patch import InvalidPatch
from records.paths import children

MOST_OPERATIONS, MOST_PATH = 1000, 1000
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: in an object under a key, or in the list under that key at an index."""

    parent: dict[str, Any]
    key: str
    type: str
    index: int | None = None

    @property
    def value(self) -> Any:
        """What stands there."""
        value = self.parent[self.key]
        return value if self.index is None else value[self.index]

    def put(self, value: Any) -> None:
        """Put another value there."""
        if self.index is None:
            self.parent[self.key] = value
        else:
            self.parent[self.key][self.index] = value

    def take(self) -> None:
        """Remove it, and the list with its last value."""
        extras = self.parent.get(f"_{self.key}")
        if self.index is None:
            del self.parent[self.key]
            self.parent.pop(f"_{self.key}", None)
            return
        del self.parent[self.key][self.index]
        if isinstance(extras, list) and self.index < len(extras):
            del extras[self.index]
        if not self.parent[self.key]:
            del self.parent[self.key]
            self.parent.pop(f"_{self.key}", None)


def apply_fhirpath_patch(document: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """The document after the operations. Raises InvalidPatch."""
    operations = parameters.get("parameter")
    if not isinstance(operations, list) or len(operations) > MOST_OPERATIONS:
        raise InvalidPatch(f"send Parameters with at most {MOST_OPERATIONS} operations")
    whole = {"": deepcopy(document)}
    for operation in operations:
        if not isinstance(operation, dict) or operation.get("name") != "operation":
            raise InvalidPatch("each parameter is called operation")
        _apply(whole, _parts(operation))
    changed: dict[str, Any] = whole[""]
    return changed


def _parts(operation: dict[str, Any]) -> dict[str, Any]:
    """The parts by name: each a value with its type, or for `value` a data type of its own parts."""
    found: dict[str, Any] = {}
    for part in operation.get("part") or ():
        if not isinstance(part, dict) or not isinstance(part.get("name"), str):
            raise InvalidPatch("a part has a name")
        found[part["name"]] = _value_of(part)
        found[f"type of {part['name']}"] = next((key[5:] for key in part if key.startswith("value")), "")
    return found


def _value_of(part: dict[str, Any]) -> Any:
    for key, value in part.items():
        if key.startswith("value"):
            return value
    if "resource" in part:
        return part["resource"]
    inner: dict[str, Any] = {}
    for each in part.get("part") or ():
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise InvalidPatch("a part has a name")
        name, value = each["name"], _value_of(each)
        if name in inner:
            known = inner[name]
            inner[name] = [*known, value] if isinstance(known, list) else [known, value]
        else:
            inner[name] = value
    return inner


def _apply(whole: dict[str, Any], parts: dict[str, Any]) -> None:
    kind, path = parts.get("type"), parts.get("path")
    if not isinstance(path, str) or len(path) > MOST_PATH:
        raise InvalidPatch(f"an operation has a path of at most {MOST_PATH} characters")
    places = find(whole, path)
    if kind == "delete":
        if len(places) > 1:
            raise InvalidPatch(f"{path[:80]} leads to more than one value")
        for place in places:
            place.take()
    elif kind == "replace":
        _one(places, path).put(_shaped(_required(parts, "value"), _one(places, path).type))
    elif kind == "add":
        value = _required(parts, "value")
        _add(_one(places, path), str(parts.get("name", "")), value, str(parts["type of value"]))
    elif kind == "insert":
        values = _list(places, path)
        at = _index(parts, "index", len(values))
        values.insert(at, _shaped(_required(parts, "value"), places[0].type))
    elif kind == "move":
        values = _list(places, path)
        origin = _index(parts, "source", len(values) - 1)
        values.insert(_index(parts, "destination", len(values) - 1), values.pop(origin))
    else:
        raise InvalidPatch(f"there is no operation {str(kind)[:20]!r}")


def _required(parts: dict[str, Any], name: str) -> Any:
    if name not in parts:
        raise InvalidPatch(f"an operation needs {name}")
    return deepcopy(parts[name])


def _one(places: list[Place], path: str) -> Place:
    if len(places) != 1:
        raise InvalidPatch(f"{path[:80]} leads to {len(places) or 'no'} values, and has to lead to one")
    return places[0]


def _list(places: list[Place], path: str) -> list[Any]:
    """The list whose values a path leads to."""
    if not places:
        raise InvalidPatch(f"{path[:80]} leads to nothing")
    values = places[0].parent[places[0].key]
    same = all(place.parent is places[0].parent and place.key == places[0].key for place in places)
    if not isinstance(values, list) or not same:
        raise InvalidPatch(f"{path[:80]} is no list")
    return values


def _index(parts: dict[str, Any], name: str, most: int) -> int:
    value = parts.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise InvalidPatch(f"{name} is a number from 0 to {most}")
    return value


def _shaped(value: Any, type_: str) -> Any:
    """An anonymous value put together from parts, with lists where its type has them."""
    if not isinstance(value, dict):
        return value
    shaped: dict[str, Any] = {}
    for name, each in value.items():
        keys = children(type_, name)
        repeats = _repeats(type_, name)
        inner_type = keys[0][1] if keys else ""
        values = [_shaped(one, inner_type) for one in (each if isinstance(each, list) else [each])]
        shaped[name] = values if repeats else values[0] if not isinstance(each, list) else each
    return shaped


def _add(place: Place, name: str, value: Any, given_type: str) -> None:
    """A new value of an element: at the end of its list, or where none is (R4: `add`).

    given_type: of the value, as its part's name ends: `Boolean` of valueBoolean; empty for one of parts.
    """
    target = place.value
    if not isinstance(target, dict) or not NAME.fullmatch(name):
        raise InvalidPatch("add needs the name of an element of an object")
    keys = children(place.type, name)
    if len(keys) > 1:  # a choice, by its name in FHIRPath: the value's own type says which
        keys = tuple(each for each in keys if each[0] == name + given_type)
        if not keys:
            raise InvalidPatch(f"write the whole name of {name}, as valueString")
    key, type_ = keys[0] if keys else _choice(place.type, name)
    value = _shaped(value, type_)
    if _repeats(place.type, name):
        target.setdefault(key, []).append(value)
    else:
        target[key] = value


def _choice(type_: str, name: str) -> tuple[str, str]:
    """The key and type of a choice element that is named with its type: valueString."""
    for at in range(1, len(name)):
        if name[at].isupper():
            for key, child_type in children(type_, name[:at]):
                if key == name:
                    return key, child_type
    raise InvalidPatch(f"there is no element {name[:40]}")


def _repeats(type_: str, name: str) -> bool:
    element = definitions()["elements"].get(f"{type_}.{name}")
    return element is not None and "max" in element


def find(whole: dict[str, Any], path: str) -> list[Place]:
    """The places that a path leads to. Raises InvalidPatch."""
    document = whole[""]
    type_ = str(document["resourceType"])
    steps = _steps(path)
    if not steps or steps[0][0] != "name":
        raise InvalidPatch("a path begins with the resource type or an element")
    places = [Place(whole, "", type_)]
    if steps[0][1] in (type_, "Resource", "DomainResource"):
        steps = steps[1:]
    for kind, argument in steps:
        places = STEPS[kind](places, argument)
    return places


def _steps(path: str) -> list[tuple[str, str]]:
    steps: list[tuple[str, str]] = []
    at = 0
    while at < len(path):
        if path[at] == "." and steps:
            at += 1
        if path[at : at + 1] == "[":
            end = path.find("]", at)
            if end < 0 or not path[at + 1 : end].isdigit() or end - at > 10:
                raise InvalidPatch("an index is a number in brackets")
            steps.append(("index", path[at + 1 : end]))
            at = end + 1
            continue
        match = NAME.match(path, at)
        if match is None:
            raise InvalidPatch(f"the path cannot be read at character {at}")
        at = match.end()
        if path[at : at + 1] != "(":
            steps.append(("name", match[0]))
            continue
        end = _closing(path, at)
        if match[0] not in STEPS or match[0] in ("name", "index"):
            raise InvalidPatch(f"there is no function {match[0][:20]} in the path of a patch")
        steps.append((match[0], path[at + 1 : end].strip()))
        at = end + 1
    return steps


def _closing(path: str, at: int) -> int:
    """Where the bracket that opens at a place is closed; those in texts do not count."""
    depth, quoted = 0, False
    while at < len(path):
        if path[at] == "\\":
            at += 1
        elif path[at] == "'":
            quoted = not quoted
        elif not quoted and path[at] in "()":
            depth += 1 if path[at] == "(" else -1
            if depth == 0:
                return at
        at += 1
    raise InvalidPatch("a bracket is not closed")


def _by_name(places: list[Place], name: str) -> list[Place]:
    found = []
    for place in places:
        value = place.value
        if not isinstance(value, dict):
            continue
        type_ = str(value.get("resourceType", place.type))
        for key, child_type in children(type_, name):
            child = value.get(key)
            if isinstance(child, list):
                found += [Place(value, key, child_type, at) for at in range(len(child))]
            elif child is not None:
                found.append(Place(value, key, child_type))
    return found


def _where(places: list[Place], condition: str) -> list[Place]:
    try:
        return [place for place in places if fhirpathpy.evaluate(plain(place.value), condition) == [True]]
    except Exception:  # the library raises whatever it met on an expression that it cannot make sense of
        raise InvalidPatch(f"the condition {condition[:60]!r} cannot be evaluated") from None


def _extension(places: list[Place], url: str) -> list[Place]:
    wanted = url.strip("'\"")
    return [place for place in _by_name(places, "extension") if place.value.get("url") == wanted]


def _single(places: list[Place], _argument: str) -> list[Place]:
    if len(places) > 1:
        raise InvalidPatch("single() meets more than one value")
    return places


STEPS = {
    "name": _by_name,
    "index": lambda places, at: places[int(at) : int(at) + 1],
    "where": _where,
    "first": lambda places, _: places[:1],
    "last": lambda places, _: places[-1:],
    "single": _single,
    "ofType": lambda places, type_: [place for place in places if place.type == type_],
    "extension": _extension,
}
