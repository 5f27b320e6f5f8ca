"""A GraphQL query as it was asked: what its text, its variables and the standard's own elements make of it.

graphql-core parses it and judges its fragments, directives and variables. Which fields a type has, the
element tables say by which the whole server goes; so no schema is built, and there is nothing to look into
(`__schema`). R4, Using GraphQL with FHIR.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSchema,
    ListValueNode,
    Node,
    NullValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    VariableNode,
    build_schema,
    get_directive_values,
    get_variable_values,
    parse,
    validate,
)
from graphql.execution.values import VariableValues
from graphql.validation import (
    KnownArgumentNamesRule,
    KnownDirectivesRule,
    KnownFragmentNamesRule,
    LoneAnonymousOperationRule,
    NoFragmentCyclesRule,
    NoUndefinedVariablesRule,
    ProvidedRequiredArgumentsRule,
    UniqueArgumentNamesRule,
    UniqueDirectivesPerLocationRule,
    UniqueFragmentNamesRule,
    UniqueOperationNamesRule,
    UniqueVariableNamesRule,
)

from kernel.errors import CloudfilmError, Kind
from records.definitions import definitions, forms
from records.documents import Written
from records.parameters import resource_types
from records.paths import children

MOST_TOKENS, MOST_DEPTH, MOST_FIELDS = 4000, 24, 1000

RULES = (
    LoneAnonymousOperationRule, UniqueOperationNamesRule, UniqueFragmentNamesRule, KnownFragmentNamesRule,
    NoFragmentCyclesRule, UniqueVariableNamesRule, NoUndefinedVariablesRule, UniqueArgumentNamesRule,
    KnownDirectivesRule, KnownArgumentNamesRule, ProvidedRequiredArgumentsRule,
    UniqueDirectivesPerLocationRule,
)  # fmt: skip
NOTHING = SelectionSetNode(selections=())
ANY = frozenset({"Resource", "DomainResource"})  # a document whose own type says which fields it has


class InvalidGraph(CloudfilmError):
    """A query that is no GraphQL, or names what is not there."""

    kind = Kind.INVALID

    def __init__(self, message: str, node: Node | None = None) -> None:
        super().__init__(message)
        at = node.loc.start_token if node is not None and node.loc else None
        self.locations = [{"line": at.line, "column": at.column}] if at else []


class GraphTooCostly(CloudfilmError):
    """A query that asks for more than one answer holds."""

    kind = Kind.UNPROCESSABLE
    issue_type = "too-costly"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The query cannot be fulfilled: {reason}.")


@dataclass(frozen=True, slots=True)
class Graph:
    """A query as it came: its text, the variables, and which of its operations is meant."""

    query: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    operation: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """What a field holds: a data type, a resource type, or the path of a backbone element."""

    type: str
    is_list: bool = False


CONNECTION = {
    "count": Field("unsignedInt"), "offset": Field("unsignedInt"), "pagesize": Field("unsignedInt"),
    "first": Field("string"), "previous": Field("string"), "next": Field("string"), "last": Field("string"),
}  # fmt: skip


@lru_cache(maxsize=1024)
def fields_of(type_: str) -> dict[str, Field]:
    """The fields of a type by the names that JSON has for them: `valueQuantity`, `_birthDate`."""
    found: dict[str, Field] = {}
    if (searched := type_.removesuffix("Connection")) != type_:
        return {**CONNECTION, "edges": Field(f"{searched}Edge", is_list=True)}
    if (searched := type_.removesuffix("Edge")) != type_:
        return {"mode": Field("code"), "score": Field("decimal"), "resource": Field(searched)}
    if type_ in resource_types() or type_ in ANY:
        found["resourceType"] = Field("code")
    for name in forms()["order"].get(type_, ()):
        is_list = "max" in definitions()["elements"][f"{type_}.{name}"]
        for key, child in children(type_, name.removesuffix("[x]")):
            found[key] = Field(child, is_list)
            if is_primitive(child):
                found[f"_{key}"] = Field("Element", is_list)
    return found


def is_primitive(type_: str) -> bool:
    """Whether values of a type have no fields."""
    return definitions()["elements"].get(type_, {}).get("kind") == "primitive-type"  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def language() -> GraphQLSchema:
    """The directives of R4's page, and the types that a variable may have."""
    primitives = [name for name in definitions()["elements"] if "." not in name and is_primitive(name)]
    return build_schema(
        "directive @flatten on FIELD directive @first on FIELD directive @singleton on FIELD "
        "directive @slice(path: String!) on FIELD "
        "type Query { _(id: ID, int: Int, float: Float, text: String): Boolean } "
        + " ".join(f"scalar {name}" for name in primitives)
    )


def field_of(node: FieldNode, type_: str) -> Field:
    """What a field of a type holds. Raises InvalidGraph."""
    name = node.name.value
    if name == "__typename":
        return Field("string")
    if type_ == "" and name in resource_types():
        return Field(name)
    if type_ == "" or type_ in resource_types():
        if (searched := name.removesuffix("List")) != name and searched in resource_types():
            return Field(searched, is_list=True)
        if (searched := name.removesuffix("Connection")) != name and searched in resource_types():
            return Field(name)
    if type_ == "Reference" and name == "resource":
        return Field("Resource")
    found = fields_of(type_).get(name)
    if found is None:
        raise InvalidGraph(f"{type_ or 'The server'} has no field {name!r}.", node)
    return found


@dataclass(slots=True)
class Query:
    """A query that can be run."""

    selections: SelectionSetNode
    fragments: dict[str, FragmentDefinitionNode]
    variables: VariableValues
    named: int = 0  # fields and fragments that were looked at

    def check(self, selections: SelectionSetNode, type_: str, depth: int = 0) -> None:
        """Raise InvalidGraph for a field that its type has not, whether or not there is anything in it.

        type_: empty for the server itself. What is of any type is judged when it is there.
        """
        if depth > MOST_DEPTH:
            raise GraphTooCostly(f"it is nested deeper than {MOST_DEPTH}")
        for node in selections.selections:
            self.named += 1
            if self.named > MOST_FIELDS:
                raise GraphTooCostly(f"it names more than {MOST_FIELDS} fields")
            if not isinstance(node, FieldNode):
                part, condition = self.part(node)
                self.check(part, type_ if condition in ("", *ANY) else condition, depth + 1)
                continue
            child = field_of(node, type_).type if type_ not in ANY else "Resource"
            if node.selection_set is not None:
                self.check(node.selection_set, child, depth + 1)
            if type_ not in ANY and is_primitive(child) is (node.selection_set is not None):
                what = "has no fields" if is_primitive(child) else "needs its fields named"
                raise InvalidGraph(f"{node.name.value!r} {what}.", node)

    def part(self, node: Any) -> tuple[SelectionSetNode, str]:
        """What a fragment selects, and the type that it is for; empty for any."""
        part = self.fragments[node.name.value] if isinstance(node, FragmentSpreadNode) else node
        condition = part.type_condition.name.value if part.type_condition else ""
        if condition and (condition not in definitions()["elements"] or is_primitive(condition)):
            raise InvalidGraph(f"There is no type {condition!r}.", node)
        return part.selection_set, condition

    def fields(self, selections: SelectionSetNode, type_: str) -> Iterator[FieldNode]:
        """The fields that are selected of a type, fragments opened."""
        for node in selections.selections:
            if self.said(node, "skip", {}).get("if") or not self.said(node, "include", {"if": True})["if"]:
                continue
            if isinstance(node, FieldNode):
                yield node
                continue
            part, condition = self.part(node)
            if condition in ("", type_) or (condition in ANY and type_ in resource_types()):
                yield from self.fields(part, type_)

    def said(self, node: Any, directive: str, default: Any = None) -> Any:
        """The arguments of a directive, where it is given."""
        if not node.directives:
            return default
        definition = language().get_directive(directive)
        given = get_directive_values(definition, node, self.variables) if definition else None
        return default if given is None else given

    def arguments(self, node: FieldNode) -> dict[str, list[str | None]]:
        """The arguments of a field as texts; None for null. One whose variable has no value is not given."""
        given = {each.name.value: self._texts(each.value) for each in node.arguments or ()}
        return {name: texts for name, texts in given.items() if texts}

    def _texts(self, node: Any) -> list[str | None]:
        if isinstance(node, ListValueNode):
            return [text for each in node.values for text in self._texts(each)]
        if isinstance(node, VariableNode):
            return (
                texts_of(self.variables.coerced[node.name.value])
                if node.name.value in self.variables.coerced
                else []
            )
        if isinstance(node, ObjectValueNode):
            raise InvalidGraph("No argument is an object.", node)
        return texts_of(None if isinstance(node, NullValueNode) else node.value)


def parse_query(asked: Graph, type_: str) -> Query:
    """Read a query on a document of a type; on the server itself, if the type is empty.

    Raises InvalidGraph or GraphTooCostly.
    """
    document = parse(asked.query, max_tokens=MOST_TOKENS)
    errors = validate(language(), document, RULES, max_errors=1, hide_suggestions=True)
    if errors:
        raise errors[0]
    operation = _operation(document.definitions, asked.operation)
    variables = get_variable_values(language(), operation.variable_definitions or (), dict(asked.variables))
    if isinstance(variables, list):
        raise variables[0]
    parts = [each for each in document.definitions if isinstance(each, FragmentDefinitionNode)]
    query = Query(operation.selection_set, {each.name.value: each for each in parts}, variables)
    query.check(operation.selection_set, type_)
    return query


def _operation(definitions_: Any, name: str) -> OperationDefinitionNode:
    found = [each for each in definitions_ if isinstance(each, OperationDefinitionNode)]
    named = [each for each in found if each.name is not None and each.name.value == name] if name else found
    if len(named) != 1:
        raise InvalidGraph("Say by operationName which query is meant.")
    if named[0].operation is not OperationType.QUERY:
        raise InvalidGraph("Only queries are taken; write by the REST interactions.", named[0])
    return named[0]


def texts_of(value: Any) -> list[str | None]:
    """A JSON value as texts: `true`, `1.50`; each of a list."""
    if isinstance(value, list):
        return [text for each in value for text in texts_of(each)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, Written):
        return [value.text]
    return [None if value is None else str(value)]
