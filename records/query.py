"""What a client searches for, as a value: parameters with their modifiers, and how to answer (R4 3.1.1).

A parameter that is not known, or a value that does not follow its type, is refused; a lenient client is told
what was left out instead.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kernel.errors import CloudfilmError, Kind
from records.parameters import Parameter, parameters_of, parent_parameter, resource_types
from records.repository import require_type

MOST_ROWS, DEFAULT_ROWS, MOST_DEPTH, MOST_CRITERIA, MOST_VALUES = 1000, 20, 8, 64, 2000

RESULT_PARAMETERS = frozenset(
    {
        "_count", "_sort", "_total", "_include", "_revinclude", "_summary", "_elements", "_format", "_pretty",
        "_cursor", "_type", "_contained", "_containedType",
    }
)  # fmt: skip

FROM_ELSEWHERE = frozenset({"_id", "_lastUpdated", "_text", "_content", "_list", "_filter"})
"""Parameters of every type that are not made from the document by a path."""

ELSEWHERE_MODIFIERS = {"_id": ("", "missing", "not"), "_lastUpdated": ("", "missing")}

MODIFIERS = {
    "token": frozenset({"not", "text", "in", "not-in", "above", "below", "of-type"}),
    "string": frozenset({"exact", "contains"}),
    "uri": frozenset({"below", "above"}),
    "reference": frozenset({"identifier"}),
    "date": frozenset[str](),
    "number": frozenset[str](),
    "quantity": frozenset[str](),
    "composite": frozenset[str](),
    "special": frozenset[str](),
}


class InvalidSearch(CloudfilmError):
    """A parameter that is not known, or a value that does not follow its type."""

    kind = Kind.INVALID

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"The search parameter {parameter[:80]!r} cannot be used: {reason}.")
        self.parameter = parameter


class NotYetIndexed(CloudfilmError):
    """A parameter of the site's own whose rows are still being made for older documents."""

    kind = Kind.UNAVAILABLE

    def __init__(self, code: str) -> None:
        super().__init__(f"The search parameter {code[:64]!r} is being indexed; try again in a while.")


@dataclass(frozen=True, slots=True)
class Criterion:
    """One parameter of a search; the values are alternatives."""

    name: str  # as written, with its modifier or chain
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for, and how it is to be answered."""

    resource_type: str  # empty: in several types
    criteria: tuple[Criterion, ...] = ()
    count: int = DEFAULT_ROWS
    sort: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()  # Type:code[:Target], with `iterate:` in front where asked
    reverse_includes: tuple[str, ...] = ()
    total: str = "none"  # none, estimate or accurate
    cursor: str = ""
    ignored: tuple[str, ...] = ()  # parameters left out, when the client is lenient
    types: tuple[str, ...] = ()  # of a search in several types; empty: every type
    compartment: tuple[str, ...] = ()  # its type and ids: only what belongs to one of them; no id: to any


def parse_search(
    resource_type: str,
    arguments: Iterable[tuple[str, str]],
    *,
    lenient: bool = False,
    compartment: tuple[str, ...] = (),
) -> Search:
    """Read the parameters of a search. resource_type: empty for one in several types.

    Raises UnknownType, or InvalidSearch for what is not known; with `lenient` that is left out and named
    instead.
    """
    if resource_type:
        require_type(resource_type)
    arguments = list(arguments)
    search = Search(resource_type, types=_types(resource_type, arguments), compartment=compartment)
    criteria: list[Criterion] = []
    ignored: list[str] = []
    for name, value in arguments:
        base, _, modifier = name.partition(":")
        try:
            if base in RESULT_PARAMETERS:
                search = _with_result_parameter(search, base, modifier, value)
                continue
            whole = base in ("_filter", "_text", "_content")
            values = tuple(each for each in ([value] if whole else split_values(value)) if each)
            if not values:
                continue  # a parameter without a value asks for nothing (R4 3.1.1.4.19)
            if len(values) > MOST_VALUES:
                raise InvalidSearch(name, f"at most {MOST_VALUES} values are taken")
            for type_ in [resource_type] if resource_type else search.types or ("Resource",):
                check_name(type_, name)
            criteria.append(Criterion(name, values))
        except InvalidSearch:
            if not lenient:
                raise
            ignored.append(name)
    if len(criteria) > MOST_CRITERIA:
        raise InvalidSearch(criteria[-1].name, f"at most {MOST_CRITERIA} parameters are taken")
    return replace(search, criteria=tuple(criteria), ignored=tuple(ignored))


def _types(resource_type: str, arguments: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    if resource_type:
        return (resource_type,)
    found: list[str] = []
    for name, value in arguments:
        if name == "_type":
            for each in value.split(","):
                require_type(each)
                found.append(each)
    return tuple(dict.fromkeys(found))


def _with_result_parameter(search: Search, name: str, modifier: str, value: str) -> Search:
    if modifier and name not in ("_include", "_revinclude"):
        raise InvalidSearch(f"{name}:{modifier}", "it takes no modifier")
    if name == "_count":
        if not re.fullmatch(r"[0-9]{1,6}", value):
            raise InvalidSearch(name, "write a whole number")
        return replace(search, count=min(int(value), MOST_ROWS))
    if name == "_sort":
        return _with_sort(search, value)
    if name == "_total":
        if value not in ("none", "estimate", "accurate"):
            raise InvalidSearch(name, "write none, estimate or accurate")
        return replace(search, total=value)
    if name == "_summary" and value == "count":
        return replace(search, count=0)
    if name == "_cursor":
        return replace(search, cursor=value)
    if name in ("_contained", "_containedType") and value not in ("false", "container"):
        raise InvalidSearch(name, "contained resources are not searched")
    if name not in ("_include", "_revinclude"):
        return search
    if modifier not in ("", "iterate", "recurse"):
        raise InvalidSearch(f"{name}:{modifier}", "the modifier is iterate")
    _check_include(name, value)
    text = ("iterate:" if modifier else "") + value
    if name == "_include":
        return replace(search, includes=(*search.includes, text))
    return replace(search, reverse_includes=(*search.reverse_includes, text))


def _with_sort(search: Search, value: str) -> Search:
    parts = tuple(part for part in value.split(",") if part)
    for part in parts:
        code = part.removeprefix("-")
        if code in ("_id", "_lastUpdated"):
            continue
        if not search.resource_type:
            raise InvalidSearch(f"_sort={code}", "a search in several types is sorted by _lastUpdated or _id")
        if find_parameter(search.resource_type, code).type not in SORTED_TYPES:
            raise InvalidSearch(f"_sort={code}", "it cannot be sorted by")
    if len(parts) > 8:
        raise InvalidSearch("_sort", "at most 8 keys are taken")
    return replace(search, sort=parts)


SORTED_TYPES = frozenset({"string", "date", "token", "uri", "number", "quantity"})


def _check_include(name: str, value: str) -> None:
    if value == "*":
        return
    type_, _, rest = value.partition(":")
    code, _, target = rest.partition(":")
    known = type_ in resource_types() and (code == "*" or code in parameters_of(type_))
    if not known or (target and target not in resource_types()):
        raise InvalidSearch(name, "write Type:parameter, Type:parameter:Target, Type:* or *")
    if code != "*" and parameters_of(type_)[code].type != "reference":
        raise InvalidSearch(name, f"{code} is not a reference")


def split_values(text: str, separator: str = ",") -> Iterable[str]:
    """The alternatives of a value: separated by commas that have no backslash before them (R4 3.1.1.4.1)."""
    return re.split(rf"(?<!\\){re.escape(separator)}", text)


def unescaped(text: str) -> str:
    """A value as it is meant: `\\,`, `\\|`, `\\$` and `\\\\` stand for the character itself."""
    return re.sub(r"\\([,|$\\])", r"\1", text) if "\\" in text else text


def check_name(resource_type: str, name: str, depth: int = 0) -> None:
    """Raise InvalidSearch unless a name, with its chain and modifier, means something for a type."""
    if depth > MOST_DEPTH:
        raise InvalidSearch(name, "the chain is too long")
    if name.startswith("_has:"):
        parts = name.split(":", 3)
        if len(parts) < 4 or parts[1] not in resource_types():
            raise InvalidSearch(name, "write _has:Type:reference:parameter")
        find_parameter(parts[1], parts[2], "reference")
        check_name(parts[1], parts[3], depth + 1)
        return
    head, dot, rest = name.partition(".")
    code, _, modifier = head.partition(":")
    if dot:
        parameter = find_parameter(resource_type, code, "reference")
        for target in targets_of(parameter, modifier):
            try:
                check_name(target, rest, depth + 1)
            except InvalidSearch:
                continue
            return
        raise InvalidSearch(name, f"none of its targets has {rest!r}")
    if code in FROM_ELSEWHERE:
        if modifier not in ELSEWHERE_MODIFIERS.get(code, ("",)):
            raise InvalidSearch(name, f"the modifier {modifier!r} does not go with it")
        return
    parameter = find_parameter(resource_type, code)
    if parameter.path is None:
        raise InvalidSearch(name, "it is not supported")
    goes_with = MODIFIERS[parameter.type] | {"missing", ""}
    if modifier not in goes_with and not (parameter.type == "reference" and _leads_on(parameter, modifier)):
        raise InvalidSearch(name, f"the modifier {modifier!r} does not go with it")


def _leads_on(parameter: Parameter, modifier: str) -> bool:
    """Whether a modifier is a type, or leads up or down in a hierarchy that one of the targets makes."""
    if modifier in ("above", "below"):
        return any(parent_parameter(target) is not None for target in parameter.targets)
    return modifier in resource_types()


def find_parameter(resource_type: str, code: str, type_: str = "") -> Parameter:
    """A parameter of a type. Raises InvalidSearch."""
    parameter = parameters_of(resource_type).get(code)
    if parameter is None or (type_ and parameter.type != type_):
        raise InvalidSearch(code, f"{resource_type or 'every type'} has no such {type_ or 'parameter'}")
    return parameter


def targets_of(parameter: Parameter, modifier: str) -> Sequence[str]:
    """The types that a reference parameter may lead to; with a modifier, that one."""
    if modifier:
        if parameter.targets and modifier not in parameter.targets:
            raise InvalidSearch(f"{parameter.code}:{modifier}", "it does not refer to that type")
        return (modifier,)
    return parameter.targets
