"""References of a document rewritten in its tree: what a bundle calls its entries becomes what they are.

Only where the standard's types are references or URIs, and in links of the narrative; never by replacing
text. R4 3.1.0.11.2.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from records.parameters import resource_types

URI_KEYS = frozenset({"url", "uri", "valueUri", "valueUrl", "valueCanonical", "valueUuid", "valueOid"})
LITERAL = re.compile(r"([A-Za-z]+/[A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?")
LINK = re.compile(r'\b(href|src)="([^"]*)"')


def rewrite_references(
    document: dict[str, Any], names: Mapping[str, str], conditional: Mapping[str, str]
) -> dict[str, Any]:
    """The document with references to `names` and conditional ones as they are kept; others stay."""
    if not names and not conditional:
        return document
    rewritten: dict[str, Any] = _rewritten(document, names, conditional)
    return rewritten


def conditional_references(document: dict[str, Any]) -> Iterator[str]:
    """References by criteria, such as `Patient?identifier=x`."""
    for each in _references(document):
        if "?" in each and each.partition("?")[0] in resource_types():
            yield each


def named_references(document: dict[str, Any]) -> Iterator[str]:
    """References to documents of this server, as `Type/id`."""
    for each in _references(document):
        place = LITERAL.fullmatch(each)
        if place is not None and place[1].partition("/")[0] in resource_types():
            yield place[1]


def _references(value: Any) -> Iterator[str]:
    """Every reference of a document; those in a Bundle's entries are not its own."""
    if isinstance(value, dict):
        if value.get("resourceType") == "Bundle":
            return
        for key, each in value.items():
            if key == "reference" and isinstance(each, str):
                yield each
            else:
                yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _rewritten(value: Any, names: Mapping[str, str], conditional: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_rewritten(each, names, conditional) for each in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, each in value.items():
        if not isinstance(each, str):
            found[key] = _rewritten(each, names, conditional)
        elif key == "reference":
            found[key] = conditional.get(each) or _renamed(each, names)
        elif key == "div":
            found[key] = LINK.sub(lambda link: f'{link[1]}="{_renamed(link[2], names)}"', each)
        elif key in URI_KEYS and each.startswith("urn:"):
            found[key] = names.get(each, each)
        else:
            found[key] = each
    return found


def _renamed(reference: str, names: Mapping[str, str]) -> str:
    """A reference to one of the names, a version or a fragment of it kept."""
    place = re.split(r"(?=/_history/|#)", reference, maxsplit=1)
    name = names.get(place[0])
    return reference if name is None else "".join([name, *place[1:]])
