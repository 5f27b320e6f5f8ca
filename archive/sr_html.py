"""Structured reports as HTML for people: the content tree as headings and lines (PS3.3 C.17, PS3.16).

One page without scripts or outside resources; every text of the object is escaped.
"""

from collections.abc import Iterator
from html import escape
from typing import Any

from archive.image_pixel import Attributes, first, items, values

SR_CLASSES = "1.2.840.10008.5.1.4.1.1.88."
MOST_DEPTH = 24
STYLE = """
body { font: 16px/1.6 system-ui, "Noto Sans CJK SC", "PingFang SC", sans-serif; margin: 2rem auto;
       max-width: 48rem; padding: 0 1rem; color: #1c2430; background: #fff }
h1 { font-size: 1.4rem; margin: 0 0 .5rem } h2, h3, h4, h5 { font-size: 1.05rem; margin: 1.2rem 0 .2rem }
dl.head { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; margin: 0 0 1rem;
          color: #55606e; font-size: .9rem } dd { margin: 0 }
ul { margin: .2rem 0; padding-left: 1.2rem } .name { color: #55606e } .unit { color: #55606e }
p { margin: .2rem 0; white-space: pre-wrap }
@media (prefers-color-scheme: dark) { body { color: #e5e9ef; background: #14181e } }
"""
HEAD = (
    ("00100010", "Patient"), ("00100020", "ID"), ("00100030", "Born"), ("00080020", "Study date"),
    ("00081030", "Study"), ("00080050", "Accession"), ("0040A491", "Completion"),
    ("0040A493", "Verification"),
)  # fmt: skip


def is_structured_report(sop_class_uid: str) -> bool:
    """Whether a SOP class is of the Structured Report kind."""
    return sop_class_uid.startswith(SR_CLASSES)


def to_html(attributes: Attributes) -> bytes:
    """A structured report as one HTML page."""
    title = title_of(attributes)
    head = "".join(
        f"<dt>{label}</dt><dd>{escape(text)}</dd>"
        for tag, label in HEAD
        if (text := plain(first(attributes, tag)))
    )
    body = "".join(_content(items(attributes, "0040A730"), 2))
    page = (
        f'<!doctype html><html><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f'<body><h1>{escape(title)}</h1><dl class="head">{head}</dl>{body}</body></html>'
    )
    return page.encode()


def title_of(attributes: Attributes) -> str:
    """What a report is called."""
    return code_meaning(items(attributes, "0040A043")) or "Structured report"


def code_meaning(codes: list[Attributes]) -> str:
    """What the first code of a sequence means, else its value."""
    if not codes:
        return ""
    return str(first(codes[0], "00080104") or first(codes[0], "00080100") or "")


def plain(value: Any) -> str:
    """A value as text: names with their ideographic group first."""
    if isinstance(value, dict):
        groups = (value.get(group, "") for group in ("Ideographic", "Alphabetic", "Phonetic"))
        return "  ".join(group.replace("^", " ").strip() for group in groups if group)
    return "" if value is None else str(value)


def _content(nodes: list[Attributes], depth: int) -> Iterator[str]:
    if depth > MOST_DEPTH:
        return
    open_list = False
    for node in nodes:
        kind = first(node, "0040A040")
        name = escape(code_meaning(items(node, "0040A043")))
        children = items(node, "0040A730")
        if kind == "CONTAINER":
            if open_list:
                yield "</ul>"
                open_list = False
            level = min(depth, 5)
            yield f"<h{level}>{name}</h{level}>" if name else ""
            yield from _content(children, depth + 1)
            continue
        if not open_list:
            yield "<ul>"
            open_list = True
        label = f'<span class="name">{name}:</span> ' if name else ""
        yield f"<li>{label}{_value(node, kind)}"
        yield from _content(children, depth + 1)
        yield "</li>"
    if open_list:
        yield "</ul>"


def _value(node: Attributes, kind: Any) -> str:
    if kind == "TEXT":
        return f"<p>{escape(value_text(node))}</p>"
    if kind == "NUM":
        return ", ".join(
            f'{escape(number)} <span class="unit">{escape(unit)}</span>' for number, unit in _measured(node)
        )
    return escape(value_text(node))


def value_text(node: Attributes) -> str:
    """The value of a content item as text; empty for a container."""
    kind = first(node, "0040A040")
    if kind == "CODE":
        return code_meaning(items(node, "0040A168"))
    if kind == "NUM":
        return ", ".join(f"{number} {unit}".strip() for number, unit in _measured(node))
    for tag in SIMPLE.get(str(kind), ()):
        if found := values(node, tag):
            return ", ".join(plain(each) for each in found)
    return ", ".join(str(first(item, "00081155") or "") for item in items(node, "00081199"))


def _measured(node: Attributes) -> Iterator[tuple[str, str]]:
    for measured in items(node, "0040A300"):
        yield plain(first(measured, "0040A30A")), code_meaning(items(measured, "004008EA"))


SIMPLE = {
    "TEXT": ("0040A160",),
    "PNAME": ("0040A123",), "DATE": ("0040A121",), "TIME": ("0040A122",), "DATETIME": ("0040A120",),
    "UIDREF": ("0040A124",), "SCOORD": ("00700023",), "TCOORD": ("0040A130",),
}  # fmt: skip
