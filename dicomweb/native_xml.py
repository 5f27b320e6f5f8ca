"""The Native DICOM Model in XML (PS3.19 A.1, PS3.18 F.2.1 and 8.7.3.2), from and to the DICOM JSON model."""

import base64
from collections.abc import Iterable, Iterator
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import ParseError, fromstring  # type: ignore[import-untyped]
from pydicom.datadict import keyword_for_tag

from kernel.errors import CloudfilmError, Kind

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
NUMBERS = frozenset({"FL", "FD", "DS", "SL", "SS", "UL", "US", "SV", "UV", "IS"})
MOST_DEPTH = 32


class InvalidNativeXml(CloudfilmError):
    """A body that is not a Native DICOM Model."""

    kind = Kind.INVALID

    def __init__(self, reason: str) -> None:
        super().__init__(f"The XML is not a Native DICOM Model: {reason}.")


def to_xml(attributes: dict[str, Any]) -> bytes:
    """One object as an XML document."""
    text = "".join(_elements(attributes))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">{text}</NativeDicomModel>'
    ).encode()


def _elements(attributes: dict[str, Any]) -> Iterator[str]:
    for tag, element in attributes.items():
        keyword = keyword_for_tag(int(tag, 16))
        named = f" keyword={quoteattr(keyword)}" if keyword else _creator(attributes, tag)
        head = f'<DicomAttribute tag="{tag}" vr="{element["vr"]}"{named}'
        content = "".join(_content(element))
        yield f"{head}>{content}</DicomAttribute>" if content else f"{head}/>"


def _creator(attributes: dict[str, Any], tag: str) -> str:
    """The private creator of an attribute (PS3.19 A.1.4), where it has one."""
    if int(tag[3], 16) % 2 == 0 or int(tag[4:], 16) < 0x1000:
        return ""
    block = attributes.get(f"{tag[:4]}00{tag[4:6]}", {}).get("Value")
    return f" privateCreator={quoteattr(str(block[0]))}" if block else ""


def _content(element: dict[str, Any]) -> Iterator[str]:
    if "BulkDataURI" in element:
        yield f"<BulkData uri={quoteattr(element['BulkDataURI'])}/>"
    elif "InlineBinary" in element:
        yield f"<InlineBinary>{element['InlineBinary']}</InlineBinary>"
    for number, value in enumerate(element.get("Value", ()), 1):
        if element["vr"] == "SQ":
            yield f'<Item number="{number}">{"".join(_elements(value or {}))}</Item>'
        elif element["vr"] == "PN":
            yield f'<PersonName number="{number}">{"".join(_name(value or {}))}</PersonName>'
        elif value is not None:
            yield f'<Value number="{number}">{escape(_printable(value))}</Value>'


def _printable(value: Any) -> str:
    """Text without what XML 1.0 cannot hold."""
    return "".join(each for each in str(value) if each >= " " or each in "\t\n\r")


def _name(value: dict[str, str]) -> Iterator[str]:
    for group in GROUPS:
        if group in value:
            parts = zip(COMPONENTS, value[group].split("^"), strict=False)
            text = "".join(f"<{name}>{escape(_printable(part))}</{name}>" for name, part in parts if part)
            yield f"<{group}>{text}</{group}>"


def from_xml(document: bytes) -> dict[str, Any]:
    """The DICOM JSON of an XML document. Raises InvalidNativeXml."""
    try:
        root = fromstring(document, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise InvalidNativeXml("it is no well-formed XML") from None
    if _local(root.tag) != "NativeDicomModel":
        raise InvalidNativeXml("its root is another element")
    return _attributes(root, 0)


def _local(name: Any) -> str:
    return str(name).rpartition("}")[2]


def _attributes(parent: Iterable[Any], depth: int) -> dict[str, Any]:
    if depth > MOST_DEPTH:
        raise InvalidNativeXml("sequences are nested too deeply")
    found: dict[str, Any] = {}
    for node in parent:
        if _local(node.tag) != "DicomAttribute":
            raise InvalidNativeXml("something else than a DicomAttribute")
        tag, vr = node.get("tag", "").upper(), node.get("vr", "")
        if len(tag) != 8 or len(vr) != 2:
            raise InvalidNativeXml("a DicomAttribute without tag or VR")
        found[tag] = _element(node, vr, depth)
    return dict(sorted(found.items()))


def _element(node: Any, vr: str, depth: int) -> dict[str, Any]:
    element: dict[str, Any] = {"vr": vr}
    values: list[Any] = []
    for child in node:
        kind = _local(child.tag)
        if kind == "BulkData":
            element["BulkDataURI"] = child.get("uri") or child.get("uuid") or ""
        elif kind == "InlineBinary":
            element["InlineBinary"] = _binary(child.text or "")
        elif kind == "Item":
            values.append(_attributes(child, depth + 1))
        elif kind == "PersonName":
            values.append({_local(group.tag): _components(group) for group in child})
        elif kind == "Value":
            values.append(_number(child.text or "") if vr in NUMBERS else child.text or "")
    if values:
        element["Value"] = values
    return element


def _binary(text: str) -> str:
    try:
        return base64.b64encode(base64.b64decode("".join(text.split()), validate=True)).decode()
    except ValueError:
        raise InvalidNativeXml("InlineBinary is not base64") from None


def _components(group: Iterable[Any]) -> str:
    parts = {_local(part.tag): part.text or "" for part in group}
    return "^".join(parts.get(name, "") for name in COMPONENTS).rstrip("^")


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text
