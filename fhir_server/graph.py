"""GraphQL over documents: what a query selects of them, and of what they refer to.

What is loaded, is loaded by `read` and `search` under the caller: a query reaches nothing that its parts
would not reach one by one. What it costs is counted as it runs. R4, Using GraphQL with FHIR.
"""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from graphql import FieldNode, GraphQLError, Node, SelectionSetNode

from access.caller import Caller
from fhir_server.graph_query import (
    ANY,
    NOTHING,
    Field,
    Graph,
    GraphTooCostly,
    InvalidGraph,
    Query,
    field_of,
    fields_of,
    is_primitive,
    parse_query,
    texts_of,
)
from kernel.errors import CloudfilmError, Kind
from records.documents import parse_document
from records.expressions import evaluated, holds_for
from records.parameters import parameters_of, resource_types
from records.query import MOST_ROWS, find_parameter, parse_search
from records.repository import Stored, read_version
from records.room import Records
from records.search import SearchResult, search

MOST_COST = 100_000
VALUE, EVALUATED, LOADED, SEARCHED = 1, 10, 20, 50  # what the parts of an answer cost

UNSUPPORTED = frozenset({"_include", "_revinclude", "_contained", "_containedType", "_cursor", "_type",
                         "_summary", "_elements", "_format", "_pretty"})  # fmt: skip
WHOLE = frozenset({"_filter", "_text", "_content", "_sort"})  # parameters whose commas are their own


class Unresolved(CloudfilmError):
    """A reference that leads to nothing here, and is not said to be optional."""

    kind = Kind.NOT_FOUND

    def __init__(self, reference: str) -> None:
        super().__init__(f"The reference {reference[:100]!r} leads to nothing here.")


def run_graph(
    records: Records,
    caller: Caller,
    base: str,
    read: Callable[[str, str], Stored],
    asked: Graph,
    on: Stored | None = None,
) -> dict[str, Any]:
    """The data that a query selects: of one document, or of the server.

    base: the URL of the FHIR endpoint. read: how the caller reads a document. Raises InvalidGraph,
    GraphTooCostly, Unresolved, and what `read` and `search` raise.
    """
    type_ = on.resource_type if on else ""
    try:
        query = parse_query(asked, type_)
        start, into = parse_document(on.body) if on else {}, _Object()
        _Run(records, caller, base, read, query).select(_At(start, type_, start), query.selections, into)
    except GraphQLError as error:
        raise InvalidGraph(error.message, error.nodes[0] if error.nodes else None) from None
    except RecursionError:
        raise GraphTooCostly("it is nested too deeply") from None
    return into.values


@dataclass(slots=True)
class _Object:
    """An object of the answer, as it is filled."""

    values: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def put(self, name: str, type_: str, value: Any, is_list: bool, node: Node) -> None:
        """Add a value under a name."""
        if self.kinds.setdefault(name, (type_, is_list)) != (type_, is_list):
            raise InvalidGraph(f"{name!r} collates values of different types.", node)
        if is_list:
            self.values.setdefault(name, []).append(value)
        elif name in self.values:
            raise InvalidGraph(f"{name!r} has more than one value.", node)
        else:
            self.values[name] = value


@dataclass(frozen=True, slots=True)
class _At:
    """Where a selection stands: a value, its type (empty: the server itself), the document it is in."""

    value: dict[str, Any]
    type: str
    document: dict[str, Any]


@dataclass(slots=True)
class _Run:
    """A query that is being run."""

    records: Records
    caller: Caller
    base: str
    read: Callable[[str, str], Stored]
    query: Query
    cost: int = 0
    loaded: dict[str, dict[str, Any]] = field(default_factory=dict)

    def spend(self, cost: int) -> None:
        """Raise GraphTooCostly for an answer that grows too large."""
        self.cost += cost
        if self.cost > MOST_COST:
            raise GraphTooCostly("it selects too much; use a Connection, or narrow it")

    def select(
        self, at: _At, selections: SelectionSetNode, into: _Object, collated: bool = False, suffix: str = ""
    ) -> None:
        """Put what is selected of a value into an object.

        collated: fields become lists, for a parent that repeats is flattened. suffix: what slices add to
        names.
        """
        for node in self.query.fields(selections, at.type):
            found = field_of(node, at.type)
            first, flatten = (self.query.said(node, each) is not None for each in ("first", "flatten"))
            values = self._values(at, node, found)[: 1 if first else None]
            repeats = collated or (found.is_list and not first)
            inner = node.selection_set or NOTHING
            is_list = repeats and self.query.said(node, "singleton") is None
            name = node.alias.value if node.alias else node.name.value
            for index, value in enumerate(values):
                self.spend(VALUE)
                ending = suffix + self._slice(node, value, index)
                if is_primitive(found.type):
                    into.put(name + ending, found.type, value, is_list, node)
                    continue
                type_ = str(value.get("resourceType", "Resource")) if found.type in ANY else found.type
                inside = _At(value, type_, value if "resourceType" in value else at.document)
                if flatten:
                    self.select(inside, inner, into, repeats, ending)
                    continue
                made = _Object()
                self.select(inside, inner, made)
                into.put(name + ending, type_, made.values, is_list, node)
            if (
                is_list
                and not (flatten or suffix)
                and name not in into.values
                and node.name.value not in fields_of(at.type)
            ):
                into.values[name] = []  # a search that finds nothing has an answer all the same

    def _slice(self, node: FieldNode, value: Any, index: int) -> str:
        """What @slice adds to a name for a value."""
        said = self.query.said(node, "slice")
        if said is None:
            return ""
        if said["path"] == "$index":
            return f".{index}"
        self.spend(EVALUATED)
        found = evaluated(value, said["path"])
        if len(found) > 1 or any(isinstance(each, dict | list) for each in found):
            raise InvalidGraph(f"The path {said['path'][:60]!r} does not give one text.", node)
        return "." + "".join(map(str, found))

    def _values(self, at: _At, node: FieldNode, found: Field) -> list[Any]:
        """The values of a field, as its arguments narrow them."""
        name, given = node.name.value, self.query.arguments(node)
        if name == "__typename":
            return ["".join(part[0].upper() + part[1:] for part in at.type.split(".")) or "Query"]
        if name not in fields_of(at.type):
            if name.endswith("Connection") and name == found.type:
                return [self._connection(at, node, given)]
            if found.is_list:
                return self._listed(at, node, found.type, given)
            if at.type == "":
                return [self._document(found.type, _only("id", given, node))]
            return self._resolved(at, given, node)
        value = at.value.get(name)
        values = [each for each in (value if isinstance(value, list) else [value]) if each is not None]
        return self._narrowed(values, found, given, node) if given else values

    def _narrowed(
        self, values: list[Any], found: Field, given: dict[str, list[str | None]], node: Node
    ) -> list[Any]:
        if is_primitive(found.type):
            raise InvalidGraph("A field of a primitive type takes no arguments.", node)
        at = {"_offset": 0, "_count": len(values)}
        for name, texts in given.items():
            if name in at:
                at[name] = _whole(texts, node)
            elif name == "fhirpath":
                values = [each for each in values if self._holds(each, texts, node)]
            elif (inner := fields_of(found.type).get(name)) is not None and is_primitive(inner.type):
                values = [each for each in values if _is_one_of(each.get(name), texts)]
            else:
                raise InvalidGraph(f"{found.type} cannot be narrowed by {name!r}.", node)
        return values[at["_offset"] : at["_offset"] + at["_count"]]

    def _holds(self, value: Any, texts: list[str | None], node: Node) -> bool:
        self.spend(EVALUATED)
        return holds_for(value, _one(texts, "fhirpath", node))

    def _resolved(self, at: _At, given: dict[str, list[str | None]], node: Node) -> list[dict[str, Any]]:
        """What a Reference leads to."""
        if given.keys() - {"type", "optional"}:
            raise InvalidGraph("The arguments of resource are optional and type.", node)
        literal, types = str(at.value.get("reference", "")), given.get("type", [])
        if literal.startswith("#"):
            contained = at.document.get("contained") or ()
            found = [each for each in contained if f"#{each.get('id')}" == literal]
            if not found and given.get("optional") != ["true"]:
                raise Unresolved(literal)
            return [each for each in found if not types or each["resourceType"] in types]
        type_, _, logical_id = literal.removeprefix(f"{self.base}/").partition("/")
        if types and type_ in resource_types() and type_ not in types:
            return []
        try:
            if type_ not in resource_types() or not logical_id:
                raise Unresolved(literal or "without a literal")
            return [self._document(type_, logical_id)]
        except CloudfilmError as refusal:
            if given.get("optional") == ["true"] and refusal.kind in (
                Kind.NOT_FOUND,
                Kind.GONE,
                Kind.FORBIDDEN,
            ):
                return []
            raise

    def _document(self, type_: str, logical_id: str) -> dict[str, Any]:
        name = f"{type_}/{logical_id}"
        if name not in self.loaded:
            self.spend(LOADED)
            own, history, version = logical_id.partition("/_history/")
            if history and version.isdecimal() and len(version) < 10:
                stored = read_version(self.records, self.caller, type_, own, int(version))
            else:
                stored = self.read(type_, logical_id)
            self.loaded[name] = parse_document(stored.body)
        return self.loaded[name]

    def _listed(
        self, at: _At, node: FieldNode, type_: str, given: dict[str, list[str | None]]
    ) -> list[dict[str, Any]]:
        """Everything that a search finds; with a _count, so many."""
        arguments = self._searched(at, node, type_, given)
        is_whole = all(name != "_count" for name, _ in arguments)
        found = self._search(type_, [*arguments, *([("_count", str(MOST_ROWS))] if is_whole else [])])
        if is_whole and found.next_cursor:
            raise GraphTooCostly(f"it finds more than {MOST_ROWS}; use {type_}Connection, or narrow it")
        return self._documents(found, given, node)

    def _connection(self, at: _At, node: FieldNode, given: dict[str, list[str | None]]) -> dict[str, Any]:
        """A page of what a search finds, and where the others are."""
        name, cursor, fhirpath = node.name.value, "", given.get("fhirpath", [])
        type_ = name.removesuffix("Connection")
        if asked := given.get("_cursor") or given.get("cursor"):
            if at.type or len(given) > 1:
                raise InvalidGraph("A cursor stands alone, and at the root of a query.", node)
            arguments, fhirpath, cursor = _opened(_one(asked, "cursor", node), name, node)
        else:
            arguments = self._searched(at, node, type_, given)
        wanted = {each.name.value for each in self.query.fields(node.selection_set or NOTHING, name)}
        how = [("_total", "accurate")] if "count" in wanted else []
        found = self._search(type_, [*arguments, *how, *([("_cursor", cursor)] if cursor else [])])
        page: dict[str, Any] = {
            "count": found.total,
            "offset": None if cursor else 0,
            "pagesize": found.search.count,
            "edges": [
                {"mode": "match", "resource": each}
                for each in self._documents(found, {"fhirpath": fhirpath} if fhirpath else {}, node)
            ],
        }
        for relation, to in (("first", ""), ("previous", found.previous_cursor), ("next", found.next_cursor)):
            if to or relation == "first":
                page[relation] = _closed(name, arguments, fhirpath, to)
        return page

    def _searched(
        self, at: _At, node: FieldNode, type_: str, given: dict[str, list[str | None]]
    ) -> list[tuple[str, str]]:
        """Arguments as parameters of a search: `_` stands for `-`, the values of one are alternatives."""
        arguments = []
        for name, texts in given.items():
            code = name if name.startswith("_") or name in parameters_of(type_) else name.replace("_", "-")
            if name == "_reference" and at.type:
                code = _one(texts, name, node).replace("_", "-")
                find_parameter(type_, code, "reference")
                arguments.append((code, f"{at.type}/{at.document.get('id')}"))
            elif name in UNSUPPORTED or name == "_reference" or None in texts:
                raise InvalidGraph(f"The argument {name!r} is not supported here.", node)
            elif name != "fhirpath":
                values = [str(text) for text in texts]
                escaped = values if code in WHOLE else [re.sub(r"(?<!\\),", r"\\,", each) for each in values]
                arguments.append((code, ",".join(escaped)))
        if at.type and "_reference" not in given:
            raise InvalidGraph(f"Say by _reference how {type_} refers to this {at.type}.", node)
        return arguments

    def _search(self, type_: str, arguments: list[tuple[str, str]]) -> SearchResult:
        self.spend(SEARCHED)
        found = search(self.records, self.caller, parse_search(type_, arguments))
        self.spend(LOADED * len(found.matches))
        return found

    def _documents(
        self, found: SearchResult, given: dict[str, list[str | None]], node: Node
    ) -> list[dict[str, Any]]:
        documents = [parse_document(each.body) for each in found.matches]
        texts = given.get("fhirpath")
        return [each for each in documents if self._holds(each, texts, node)] if texts else documents


def _is_one_of(value: Any, texts: list[str | None]) -> bool:
    return any(each in texts for each in texts_of(value))


def _one(texts: list[str | None], name: str, node: Node) -> str:
    if len(texts) != 1 or not texts[0]:
        raise InvalidGraph(f"The argument {name!r} takes one text.", node)
    return texts[0]


def _only(name: str, given: dict[str, list[str | None]], node: Node) -> str:
    if given.keys() != {name}:
        raise InvalidGraph(f"The argument is {name!r}.", node)
    return _one(given[name], name, node)


def _whole(texts: list[str | None], node: Node) -> int:
    text = _one(texts, "_count", node)
    if not text.isdecimal() or len(text) > 9:
        raise InvalidGraph("Write _offset and _count as whole numbers.", node)
    return int(text)


def _closed(name: str, arguments: list[tuple[str, str]], fhirpath: list[str | None], cursor: str) -> str:
    """A cursor of a Connection: the search, and where in it. What may be seen, the search itself decides."""
    text = json.dumps([name, arguments, fhirpath, cursor], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode()


def _opened(text: str, name: str, node: Node) -> tuple[list[tuple[str, str]], list[str | None], str]:
    try:
        of, arguments, fhirpath, cursor = json.loads(base64.urlsafe_b64decode(text))
        if of != name:
            raise ValueError
        return (
            [(str(code), str(value)) for code, value in arguments],
            [str(each) for each in fhirpath],
            str(cursor),
        )
    except (ValueError, TypeError):
        raise InvalidGraph(f"The cursor is none of a {name}.", node) from None
