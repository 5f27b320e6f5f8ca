"""The XML form of a resource: to JSON and back, by the standard's own table of elements (R4 2.6.1).

Elements stand in the order of the standard; a value is an attribute; numbers and booleans are told from texts
by the element's type, and a decimal keeps the digits that it was written with. What is read is untrusted: a
document type declaration or an entity is refused.
"""

import re
from functools import lru_cache
from typing import Any

from lxml import etree

from records.definitions import definitions, forms
from records.documents import MOST_DEPTH, InvalidDocument, Written
from records.parameters import resource_types

FHIR = "http://hl7.org/fhir"
XHTML = "http://www.w3.org/1999/xhtml"
NUMBERS = frozenset({"integer", "positiveInt", "unsignedInt"})
INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,60})?([eE][+-]?[0-9]{1,3})?")


def to_xml(document: dict[str, Any], pretty: bool = False) -> bytes:
    """The resource as XML."""
    root = _resource(document)
    etree.cleanup_namespaces(root)
    if pretty:
        etree.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>' + bytes(etree.tostring(root, encoding="utf-8"))


def _resource(document: dict[str, Any]) -> Any:
    type_ = str(document["resourceType"])
    root = etree.Element(f"{{{FHIR}}}{type_}", nsmap={None: FHIR})
    _children_to_xml(root, document, type_)
    return root


def _children_to_xml(parent: Any, value: dict[str, Any], type_: str) -> None:
    for key, name, child_type, is_attribute in _keys(type_):
        if key not in value and f"_{key}" not in value:
            continue
        child, extra = value.get(key), value.get(f"_{key}")
        if is_attribute:
            parent.set(key, str(child))
            continue
        if not isinstance(child, list) and not isinstance(extra, list):
            child, extra = [child], [extra]
        child, extra = child or [], extra or []
        for at in range(max(len(child), len(extra))):
            one = child[at] if at < len(child) else None
            more = extra[at] if at < len(extra) else None
            _element(parent, name, child_type, one, more)


def _element(parent: Any, name: str, type_: str, value: Any, extra: Any) -> None:
    if name == "div" and type_ == "xhtml":
        parent.append(_narrative(str(value)))
        return
    element = etree.SubElement(parent, f"{{{FHIR}}}{name}")
    if isinstance(value, dict) and type_ == "Resource":
        element.append(_resource(value))
    elif isinstance(value, dict):
        _children_to_xml(element, value, type_)
    else:
        if isinstance(extra, dict):
            _children_to_xml(element, extra, "Element")
        if value is not None:
            element.set("value", _attribute(value))


def _attribute(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value.text if isinstance(value, Written) else str(value)
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "\ufffd", text)


def _narrative(text: str) -> Any:
    try:
        return etree.fromstring(text.encode(), _parser())
    except etree.XMLSyntaxError:  # what is no XHTML is shown as it is written
        div = etree.Element(f"{{{XHTML}}}div", nsmap={None: XHTML})
        div.text = _attribute(text)
        return div


@lru_cache(maxsize=8192)
def _keys(type_: str) -> tuple[tuple[str, str, str, bool], ...]:
    """For each JSON key of a type in the order of XML: key, element name, type of the value, is it an
    attribute."""
    found: list[tuple[str, str, str, bool]] = []
    elements, is_resource = definitions()["elements"], type_ in resource_types()
    for name in forms()["order"].get(type_, ()):
        path = f"{type_}.{name}"
        row = elements[path]
        if name.endswith("[x]"):
            for each in row["types"]:
                key = name[:-3] + each[0].upper() + each[1:]
                found.append((key, key, each, False))
            continue
        value_type = row["same"] if "same" in row else row["types"][0] if row["types"] else "string"
        if value_type in ("BackboneElement", "Element"):
            value_type = path
        is_attribute = (name == "id" and not is_resource) or (type_ == "Extension" and name == "url")
        found.append((name, name, value_type, is_attribute))
    return tuple(found)


def _parser() -> Any:
    return etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True,
        remove_pis=True, dtd_validation=False,
    )  # fmt: skip


def from_xml(text: bytes) -> dict[str, Any]:
    """Read a resource. Raises InvalidDocument for what is no FHIR XML, or has a document type or entities."""
    try:
        root = etree.fromstring(text, _parser())
    except (etree.XMLSyntaxError, ValueError):
        raise InvalidDocument("it is not XML") from None
    if root.getroottree().docinfo.doctype:
        raise InvalidDocument("a document type declaration is not taken")
    return _read_resource(root, 0)


def _read_resource(element: Any, depth: int) -> dict[str, Any]:
    name = etree.QName(element) if isinstance(element.tag, str) else None
    if name is None or name.namespace != FHIR or name.localname not in resource_types():
        raise InvalidDocument("its root is not a resource in the namespace of FHIR")
    return {"resourceType": name.localname, **_read_children(element, name.localname, depth)}


def _read_children(element: Any, type_: str, depth: int) -> dict[str, Any]:
    if depth > MOST_DEPTH:
        raise InvalidDocument("it is nested too deeply")
    if (element.text or "").strip():
        raise InvalidDocument(f"a text stands in {etree.QName(element).localname}")
    keys = {
        name: (key, child_type) for key, name, child_type, is_attribute in _keys(type_) if not is_attribute
    }
    found: dict[str, Any] = {}
    attributes = {key for key, _, _, is_attribute in _keys(type_) if is_attribute}
    for attribute, value in element.attrib.items():
        if attribute in attributes:
            found[attribute] = value
        elif attribute != "value" and not attribute.startswith("{"):
            raise InvalidDocument(f"the attribute {attribute[:40]} is not known")
    for child in element:
        if not isinstance(child.tag, str):
            raise InvalidDocument("an entity is not taken")
        qualified = etree.QName(child)
        local = qualified.localname
        if local not in keys or qualified.namespace not in (FHIR, XHTML):
            raise InvalidDocument(f"{type_} has no element {local[:60]}")
        key, child_type = keys[local]
        _read_child(found, child, key, child_type, type_, depth)
        if (child.tail or "").strip():
            raise InvalidDocument(f"a text stands after {local[:60]}")
    return {key: each for key, each in found.items() if not _is_hollow(each)}


def _is_hollow(value: Any) -> bool:
    """A list in which nothing stands: its elements have only extensions, which stand beside it."""
    return isinstance(value, list) and all(each is None for each in value)


def _read_child(found: dict[str, Any], child: Any, key: str, child_type: str, type_: str, depth: int) -> None:
    repeats = _repeats(type_, key)
    value: Any
    extra: Any = None
    if child_type == "xhtml":
        child.tail = None
        value = etree.tostring(child, encoding="unicode")
    elif child_type == "Resource":
        inner = [each for each in child if isinstance(each.tag, str)]
        if len(inner) != 1:
            raise InvalidDocument(f"{key} holds one resource")
        value = _read_resource(inner[0], depth + 1)
    elif child_type[0].isupper():
        value = _read_children(child, child_type, depth + 1)
    else:
        value = _primitive(child.get("value"), child_type)
        extra = _read_children(child, "Element", depth + 1) or None
    if not repeats:
        if key in found or f"_{key}" in found:
            raise InvalidDocument(f"{key} stands twice")
        if value is not None:
            found[key] = value
        if extra is not None:
            found[f"_{key}"] = extra
        return
    values = found.setdefault(key, [])
    values.append(value)
    extras = found.get(f"_{key}")
    if extra is not None and extras is None:
        extras = found[f"_{key}"] = [None] * (len(values) - 1)
    if extras is not None:
        extras.append(extra)


@lru_cache(maxsize=8192)
def _repeats(type_: str, key: str) -> bool:
    elements = definitions()["elements"]
    row = elements.get(f"{type_}.{key}")
    return row is not None and "max" in row


def _primitive(text: str | None, type_: str) -> Any:
    if text is None:
        return None
    if type_ == "boolean":
        if text not in ("true", "false"):
            raise InvalidDocument("a boolean is true or false")
        return text == "true"
    if type_ in NUMBERS:
        if not INTEGER.fullmatch(text):
            raise InvalidDocument("an integer is not one")
        return int(text)
    if type_ == "decimal":
        if not DECIMAL.fullmatch(text):
            raise InvalidDocument("a decimal is not one")
        return Written(text) if not INTEGER.fullmatch(text) or text == "-0" else int(text)
    return text
