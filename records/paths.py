"""The part of FHIRPath in which R4 writes its search parameters, compiled to Python functions.

Path steps, `|`, `.where(a='b')`, `.where(resolve() is T)`, `as`, `ofType`, an index and `exists()`:
nothing else occurs in
the 1,400 expressions of R4. A compiled path takes a resource and gives (value, type) pairs; the type
comes from
the standard's element table, so that a leaf is indexed for what it is. FHIRPath N1, R4 search 3.2.1.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from records.definitions import definitions

Node = tuple[Any, str]
Path = Callable[[list[Node]], list[Node]]

TOKEN = re.compile(r"\s*([A-Za-z_][\w-]*|'[^']*'|\d+|!=|[().|=\[\]])")


class UnsupportedPath(ValueError):
    """An expression outside of that part of FHIRPath."""


def compile_path(expression: str, resource_type: str) -> Path:
    """A function for an expression, as it applies to one resource type. Raises UnsupportedPath."""
    parser = _Parser(expression, resource_type)
    path = parser.union()
    if parser.at < len(parser.tokens):
        raise UnsupportedPath(expression)
    return path


def first_keys(expression: str, resource_type: str) -> frozenset[str] | None:
    """The keys of a document of which one must be there for an expression to give anything; None when that
    cannot be told from its first steps. Raises UnsupportedPath."""
    parser = _Parser(expression, resource_type)
    parser.union()
    if parser.heads is None:
        return None
    return frozenset(key for name in parser.heads for key, _ in children(resource_type, name))


class _Parser:
    def __init__(self, expression: str, resource_type: str) -> None:
        self.tokens = TOKEN.findall(expression)
        if "".join(self.tokens) != re.sub(r"\s+(?=(?:[^']*'[^']*')*[^']*$)", "", expression):
            raise UnsupportedPath(expression)
        self.at = 0
        self.heads: set[str] | None = set()  # names of the first steps; None: the document itself
        self.applies = True  # what was read last begins at this type, or at any
        self._expression = expression
        self._resource_type = resource_type

    def union(self) -> Path:
        paths = []
        while True:
            self.applies = True
            path = self.alternative()
            if self.applies:  # many parameters are written for several types at once
                paths.append(path)
            if not self._take("|"):
                break
        self.applies = bool(paths)
        if len(paths) == 1:
            return paths[0]
        return lambda nodes: [node for path in paths for node in path(nodes)]

    def alternative(self) -> Path:
        path = self.postfixed(self.first())
        if self._take("as") or self._take("is"):
            return _then(path, _of_type(self._name()))
        return path

    def first(self) -> Path:
        if self._take("("):
            inner = self.union()
            self._expect(")")
            return inner
        name = self._name()
        if name[0].isupper():  # the type that the path begins at; other types' paths give nothing here
            applies = name in (self._resource_type, "Resource", "DomainResource")
            if applies:
                self._begin()
            else:
                self.applies = False
            return _itself
        if self.heads is not None:
            self.heads.add(name)
        return _step(name)

    def _begin(self) -> None:
        """Note the step that follows the type, if it is an element."""
        dot, name, after = (*self.tokens[self.at : self.at + 3], "", "", "")[:3]
        if dot == "." and after != "(" and self.heads is not None:
            self.heads.add(name)
        else:
            self.heads = None

    def postfixed(self, path: Path) -> Path:
        while True:
            if self._take("."):
                path = _then(path, self.member())
            elif self._take("["):
                index = int(self._name())
                self._expect("]")
                path = _then(path, lambda nodes, index=index: nodes[index : index + 1])  # type: ignore[misc]
            else:
                return path

    def member(self) -> Path:
        name = self._name()
        if not self._take("("):
            return _step(name)
        if name == "where":
            condition = self.condition()
        elif name in ("as", "ofType"):
            condition = _of_type(self._name())
        elif name == "exists":
            condition = lambda nodes: [(bool(nodes), "boolean")]  # noqa: E731
        else:
            raise UnsupportedPath(self._expression)
        self._expect(")")
        return condition

    def condition(self) -> Path:
        name = self._name()
        if name == "resolve":
            for expected in ("(", ")", "is"):
                self._expect(expected)
            return _resolves_to(self._name())
        inner = self.postfixed(_step(name))
        operator = self._next()
        value = self._next()
        if operator not in ("=", "!=") or not value.startswith("'"):
            raise UnsupportedPath(self._expression)
        return _equals(inner, value.strip("'"), operator == "=")

    def _next(self) -> str:
        if self.at >= len(self.tokens):
            raise UnsupportedPath(self._expression)
        self.at += 1
        return str(self.tokens[self.at - 1])

    def _take(self, token: str) -> bool:
        if self.at < len(self.tokens) and self.tokens[self.at] == token:
            self.at += 1
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise UnsupportedPath(self._expression)

    def _name(self) -> str:
        return self._next()


def _itself(nodes: list[Node]) -> list[Node]:
    return nodes


def _then(first: Path, second: Path) -> Path:
    if first is _itself:
        return second
    return lambda nodes: second(first(nodes))


def _step(name: str) -> Path:
    """One element, choice types included (`value` finds valueQuantity), each with its own type."""

    def step(nodes: list[Node]) -> list[Node]:
        found: list[Node] = []
        for value, type_ in nodes:
            if isinstance(value, dict):
                for key, child_type in children(type_, name):
                    child = value.get(key)
                    if isinstance(child, list):
                        found.extend((each, child_type) for each in child if each is not None)
                    elif child is not None:
                        found.append((child, child_type))
        return found

    return step


def _of_type(type_name: str) -> Path:
    if type_name == "DateTime":  # as some of the standard's own expressions write it
        type_name = "dateTime"
    return lambda nodes: [node for node in nodes if node[1] == type_name]


def _resolves_to(type_name: str) -> Path:
    """References to one type: by the reference itself or by its declared type, for nothing is fetched
    here."""

    def resolves(nodes: list[Node]) -> list[Node]:
        return [node for node in nodes if isinstance(node[0], dict) and reference_type(node[0]) == type_name]

    return resolves


def _equals(inner: Path, expected: str, equal: bool) -> Path:
    return lambda nodes: [node for node in nodes if any(v == expected for v, _ in inner([node])) is equal]


def reference_type(reference: dict[str, Any]) -> str:
    """The resource type that a Reference points to, or an empty text."""
    declared = reference.get("type")
    if isinstance(declared, str):
        return declared
    parts = str(reference.get("reference", "")).split("/_history/")[0].split("/")
    return parts[-2] if len(parts) > 1 else ""


_children: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}


def children(type_: str, name: str) -> tuple[tuple[str, str], ...]:
    """The JSON keys under which an element of a type may stand, each with the type of its value.

    type_: a data type, a resource type, or the path of a backbone element.
    """
    known = _children.get((type_, name))
    if known is None:
        known = _children[(type_, name)] = tuple(_children_of(type_, name))
    return known


def _children_of(type_: str, name: str) -> Iterable[tuple[str, str]]:
    elements = definitions()["elements"]
    path = f"{type_}.{name}"
    element = elements.get(path)
    if element is not None:
        if "same" in element:
            yield name, element["same"]
        for type_name in element["types"]:
            yield name, path if type_name in ("BackboneElement", "Element") else type_name
        return
    choice = elements.get(f"{path}[x]")
    for type_name in choice["types"] if choice else ():
        yield name + type_name[0].upper() + type_name[1:], type_name
