"""Profiles: whether a resource keeps what a StructureDefinition adds to its type (R4 5.1).

Read from the snapshot, or from the differential, for what the base type asks is checked already: cardinality,
fixed values and patterns, types, bindings, invariants, slices by value, pattern, type and existence, and
extensions by their own definitions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from records.documents import Written
from records.invariants import as_evaluable, holds_on
from records.issues import MOST_ISSUES, Issue

Definition = dict[str, Any]
FindProfile = Callable[[str], Definition | None]  # a StructureDefinition by its canonical URL
CheckCode = Callable[[str, str, str], bool | None]  # value set, system, code; None: it cannot be told
DEEPEST = 8


@dataclass(slots=True)
class Node:
    """An element of a definition with what lies below it, and its slices."""

    element: Definition
    children: dict[str, "Node"] = field(default_factory=dict)
    slices: dict[str, "Node"] = field(default_factory=dict)


def tree_of(definition: Definition) -> Node:
    """The elements of a StructureDefinition as a tree."""
    elements = (definition.get("snapshot") or definition.get("differential") or {}).get("element") or []
    root = Node({"path": definition.get("type", "")})
    for element in elements:
        if not isinstance(element, dict):
            continue
        steps = str(element.get("id") or element.get("path", "")).split(".")
        at = root
        for step in steps[1:]:
            name, colon, slice_name = step.partition(":")
            at = at.children.setdefault(name, Node({"path": f"{at.element.get('path', '')}.{name}"}))
            if colon:
                at = at.slices.setdefault(slice_name, Node({"path": at.element.get("path", "")}))
        at.element = element
    return root


class ProfileCheck:
    """One check of one resource against one profile."""

    def __init__(self, find_profile: FindProfile, check_code: CheckCode) -> None:
        self.find_profile = find_profile
        self.check_code = check_code
        self.issues: list[Issue] = []

    def run(self, document: dict[str, Any], definition: Definition) -> list[Issue]:
        """What the resource breaks of a profile, and of the profiles that it is made from."""
        seen: set[str] = set()
        current: Definition | None = definition
        resource_type = str(document.get("resourceType", ""))
        if definition.get("type") not in (resource_type, None):
            named = definition.get("url")
            self._add(
                "error", "structure", resource_type, f"{named} is a profile of {definition.get('type')}"
            )
            return self.issues
        while current is not None and str(current.get("url")) not in seen:
            seen.add(str(current.get("url")))
            self._children(document, tree_of(current), resource_type, 0)
            self._invariants(document, current, resource_type)
            base = str(current.get("baseDefinition", ""))
            parent = self.find_profile(base) if base else None
            if base and parent is None:
                self._add("warning", "not-found", resource_type, f"The profile {base} is not known")
            current = parent if parent and parent.get("derivation") == "constraint" else None
        return self.issues

    def _add(self, severity: str, code: str, at: str, diagnostics: str, key: str = "") -> None:
        if len(self.issues) < MOST_ISSUES:
            self.issues.append(Issue(severity, code, at, diagnostics, key))

    def _children(self, value: dict[str, Any], node: Node, at: str, depth: int) -> None:
        for name, child in node.children.items():
            self._element(value, name, child, at, depth)

    def _element(self, value: dict[str, Any], name: str, node: Node, at: str, depth: int) -> None:
        found = list(values_of(value, name))
        place = f"{at}.{name.removesuffix('[x]')}"
        self._cardinality(node.element, len(found), place)
        for number, (key, each) in enumerate(found):
            self._one(key, each, node, f"{place}[{number}]" if len(found) > 1 else place, depth)
        if node.slices:
            self._slices(found, node, place, depth)

    def _cardinality(self, element: Definition, count: int, at: str, name: str = "") -> None:
        what = f"the slice {name!r}" if name else "this element"
        least, most = element.get("min"), element.get("max")
        if isinstance(least, int) and count < least:
            self._add("error", "required", at, f"The profile asks for {what} at least {least} times")
        if isinstance(most, str) and most.isdigit() and count > int(most):
            self._add("error", "structure", at, f"The profile allows {what} at most {most} times")

    def _one(self, key: str, value: Any, node: Node, at: str, depth: int) -> None:
        element = node.element
        wanted = given_value(element, "fixed")
        if wanted is not None and _plain(value) != wanted:
            self._add("error", "value", at, f"The profile fixes this to {str(wanted)[:100]}")
        wanted = given_value(element, "pattern")
        if wanted is not None and not fits(_plain(value), wanted):
            self._add("error", "value", at, f"This does not fit the profile's pattern {str(wanted)[:100]}")
        types = [each for each in element.get("type") or () if isinstance(each, dict)]
        path = str(element.get("path", ""))
        if path.endswith("[x]") and types:
            stem = path.rpartition(".")[2].removesuffix("[x]")
            allowed = {
                stem + str(each.get("code", ""))[:1].upper() + str(each.get("code", ""))[1:] for each in types
            }
            if key not in allowed:
                self._add("error", "structure", at, f"The profile allows {' or '.join(sorted(allowed))} here")
        binding = element.get("binding")
        if isinstance(binding, dict) and binding.get("strength") in ("required", "extensible"):
            self._binding(value, binding, at)
        if isinstance(value, dict):
            for each in element.get("constraint") or () if "." in path else ():
                self._constraint(value, each, at)
            self._extension_profile(value, types, at, depth)
            self._children(value, node, at, depth)

    def _extension_profile(self, value: dict[str, Any], types: list[Definition], at: str, depth: int) -> None:
        for each in types:
            if each.get("code") == "Extension" and depth < DEEPEST:
                for canonical in each.get("profile") or ():
                    definition = self.find_profile(str(canonical).partition("|")[0])
                    if definition is not None and definition.get("url") == value.get("url"):
                        self._children(value, tree_of(definition), at, depth + 1)

    def _binding(self, value: Any, binding: Definition, at: str) -> None:
        value_set = str(binding.get("valueSet", ""))
        codings = [value] if isinstance(value, dict) and "code" in value else []
        if isinstance(value, dict) and isinstance(value.get("coding"), list):
            codings = [each for each in value["coding"] if isinstance(each, dict)]
        elif isinstance(value, str):
            codings = [{"code": value}]
        if not value_set or not codings:
            return
        told = [
            self.check_code(value_set, str(each.get("system", "")), str(each.get("code", "")))
            for each in codings
        ]
        if True in told:
            return
        if None in told:
            self._add("warning", "not-found", at, f"Whether the code is in {value_set} cannot be told")
            return
        severity = "error" if binding["strength"] == "required" else "warning"
        self._add(
            severity, "code-invalid", at, f"None of the codes is in {value_set} ({binding['strength']})"
        )

    def _invariants(self, document: dict[str, Any], definition: Definition, at: str) -> None:
        """Constraints on the resource itself that the profile adds."""
        elements = (definition.get("snapshot") or definition.get("differential") or {}).get("element") or []
        for element in elements:
            if isinstance(element, dict) and "." not in str(element.get("path", "")):
                for each in element.get("constraint") or ():
                    self._constraint(document, each, at)

    def _constraint(self, value: dict[str, Any], constraint: Definition, at: str) -> None:
        expression, key = str(constraint.get("expression", "")), str(constraint.get("key", ""))
        source = str(constraint.get("source", ""))
        if (
            not expression
            or source.startswith("http://hl7.org/fhir/StructureDefinition/")
            or key in BASE_KEYS
        ):
            return
        if holds_on(as_evaluable(value), expression) is False:
            self._add(
                str(constraint.get("severity", "error")),
                "invariant",
                at,
                f"{constraint.get('human')} ({key})",
                key,
            )

    def _slices(self, found: list[tuple[str, Any]], node: Node, at: str, depth: int) -> None:
        slicing = node.element.get("slicing")
        discriminators = slicing.get("discriminator") or () if isinstance(slicing, dict) else ()
        is_extension = at.endswith((".extension", ".modifierExtension"))
        if not discriminators and is_extension:
            discriminators = ({"type": "value", "path": "url"},)
        taken = [False] * len(found)
        for name, each in node.slices.items():
            count = 0
            for number, (key, value) in enumerate(found):
                if not taken[number] and all(self._is_of(key, value, each, one) for one in discriminators):
                    taken[number] = True
                    count += 1
                    self._one(key, value, each, f"{at}[{number}]", depth)
            self._cardinality(each.element, count, at, name)
        if isinstance(slicing, dict) and slicing.get("rules") == "closed" and not all(taken):
            self._add("error", "structure", at, "The profile allows only its own slices here")

    def _is_of(self, key: str, value: Any, node: Node, discriminator: Definition) -> bool:
        """Whether a value belongs to a slice, by one discriminator."""
        path, kind = str(discriminator.get("path", "$this")), discriminator.get("type")
        target, values = node, [(key, value)]
        if path != "$this":
            for step in path.split("."):
                if step.startswith(("ofType(", "resolve(", "extension(")):
                    return False
                values = [
                    inner for _, each in values if isinstance(each, dict) for inner in values_of(each, step)
                ]
                target = target.children.get(step) or target.children.get(f"{step}[x]") or Node({})
        if kind == "exists":
            return (target.element.get("max") != "0") == bool(values)
        if kind == "type":
            types = {str(each.get("code", "")).lower() for each in target.element.get("type") or ()}
            return any(
                (isinstance(each, dict) and str(each.get("resourceType", "")).lower() in types)
                or any(name.lower().endswith(one) for one in types if one)
                for name, each in values
            )
        wanted = given_value(target.element, "fixed")
        if wanted is not None:
            return any(_plain(each) == wanted for _, each in values)
        wanted = given_value(target.element, "pattern")
        if wanted is not None:
            return any(fits(_plain(each), wanted) for _, each in values)
        if path == "url":
            urls = [str(one) for each in node.element.get("type") or () for one in each.get("profile") or ()]
            return any(each in (one.partition("|")[0] for one in urls) for _, each in values)
        binding = target.element.get("binding")
        if isinstance(binding, dict) and binding.get("strength") == "required":
            return any(self._is_bound(each, str(binding.get("valueSet", ""))) for _, each in values)
        nested = {name: child for name, child in target.children.items() if _is_told(child.element)}
        return bool(nested) and any(
            isinstance(each, dict) and all(_child_fits(each, name, child) for name, child in nested.items())
            for _, each in values
        )

    def _is_bound(self, value: Any, value_set: str) -> bool:
        if isinstance(value, str):
            return self.check_code(value_set, "", value) is True
        codings = value.get("coding", [value]) if isinstance(value, dict) else []
        return any(
            self.check_code(value_set, str(each.get("system", "")), str(each.get("code", ""))) is True
            for each in codings
            if isinstance(each, dict)
        )


BASE_KEYS = frozenset({"ele-1", "ext-1", "dom-2", "dom-3", "dom-4", "dom-5", "dom-6"})


def _is_told(element: Definition) -> bool:
    return any(key.startswith(("fixed", "pattern")) for key in element)


def _child_fits(value: dict[str, Any], name: str, node: Node) -> bool:
    wanted = given_value(node.element, "fixed")
    if wanted is None:
        wanted = given_value(node.element, "pattern")
    return any(fits(_plain(each), wanted) for _, each in values_of(value, name))


def values_of(value: dict[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """The values of an element with the key that each stands under; `value[x]` finds valueQuantity."""
    stem = name.removesuffix("[x]")
    for key, found in value.items():
        if key == stem or (name.endswith("[x]") and key.startswith(stem) and key[len(stem) :][:1].isupper()):
            for each in found if isinstance(found, list) else [found]:
                if each is not None:
                    yield key, each
    if stem not in value and f"_{stem}" in value:  # a primitive that has extensions alone
        yield stem, value[f"_{stem}"]


def given_value(element: Definition, prefix: str) -> Any:
    """`fixed[x]` or `pattern[x]` of an element definition, or None."""
    for key, value in element.items():
        if key.startswith(prefix) and key[len(prefix) :][:1].isupper():
            return _plain(value)
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, Written):
        return float(value.text)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def fits(value: Any, pattern: Any) -> bool:
    """Whether a value has all that a pattern has (R4 ElementDefinition.pattern)."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            key in value and fits(value[key], each) for key, each in pattern.items()
        )
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(fits(one, each) for one in value) for each in pattern)
    return bool(value == pattern)
