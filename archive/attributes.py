"""Reading and writing attributes of a DICOM JSON document by keyword (PS3.18 F.2).

Workitems are documents that several doors write and read, so they are kept in the one form that all of them
speak; these few functions are what the rules on them need.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword

Document = dict[str, Any]

GROUPS = ("Alphabetic", "Ideographic", "Phonetic")  # of a person name (PS3.18 F.2.2)


@lru_cache(maxsize=4096)
def tag_of(keyword: str) -> str:
    """The tag of a keyword as DICOM JSON writes it. Raises KeyError for a keyword that the standard lacks."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return f"{tag:08X}"


@lru_cache(maxsize=4096)
def vr_of(keyword: str) -> str:
    """The VR of a keyword."""
    return dictionary_VR(int(tag_of(keyword), 16)).split(" or ")[0]


def element(keyword: str, *values: Any) -> Document:
    """An element without its tag; values that are empty texts are left out."""
    vr = vr_of(keyword)
    kept = [value for value in values if value not in ("", None)]
    if vr == "PN":
        kept = [person_name(value) if isinstance(value, str) else value for value in kept]
    return {"vr": vr, "Value": kept} if kept else {"vr": vr}


def document(**by_keyword: Any) -> Document:
    """A document from keywords: a list is several values, an empty text or list an element without one."""
    return dict(
        sorted(
            (tag_of(keyword), element(keyword, *(value if isinstance(value, list) else [value])))
            for keyword, value in by_keyword.items()
        )
    )


def person_name(text: str) -> dict[str, str]:
    """A DICOM person name (PS3.5 6.2.1) as an object of its component groups."""
    return {group: part for group, part in zip(GROUPS, text.split("="), strict=False) if part}


def values(found: Mapping[str, Any], keyword: str) -> list[Any]:
    """All values of an attribute; nothing when it is absent or empty."""
    held = found.get(tag_of(keyword))
    value = held.get("Value") if isinstance(held, dict) else None
    return value if isinstance(value, list) else []


def text(found: Mapping[str, Any], keyword: str) -> str:
    """The first value as text; a person name with its groups joined by `=`. Empty when there is none."""
    first = next((value for value in values(found, keyword) if value is not None), "")
    return text_of(first)


def text_of(value: Any) -> str:
    """One value as text."""
    if isinstance(value, dict):
        return "=".join(str(value.get(group, "")) for group in GROUPS).rstrip("=")
    return str(value).strip() if value is not None else ""


def items(found: Mapping[str, Any], keyword: str) -> list[Document]:
    """The items of a sequence."""
    return [item for item in values(found, keyword) if isinstance(item, dict)]


def item(found: Mapping[str, Any], keyword: str) -> Document:
    """The first item of a sequence; an empty one when there is none."""
    return next(iter(items(found, keyword)), {})


def code(value: str, scheme: str, meaning: str) -> Document:
    """An item of a code sequence (PS3.3 8.8)."""
    return document(CodeValue=value[:16], CodingSchemeDesignator=scheme[:16], CodeMeaning=meaning[:64])
