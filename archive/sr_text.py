"""Structured reports as plain text: the content tree as indented lines (PS3.3 C.17, PS3.18 table 8.7.4-1)."""

from collections.abc import Iterator

from archive.image_pixel import Attributes, first, items
from archive.sr_html import HEAD, MOST_DEPTH, code_meaning, plain, title_of, value_text

INDENT = "  "


def to_text(attributes: Attributes) -> bytes:
    """A structured report as lines of UTF-8."""
    head = [f"{label}: {text}" for tag, label in HEAD if (text := plain(first(attributes, tag)))]
    body = _lines(items(attributes, "0040A730"), 0)
    return "\n".join((title_of(attributes), "", *head, "", *body, "")).encode()


def _lines(nodes: list[Attributes], depth: int) -> Iterator[str]:
    if depth > MOST_DEPTH:
        return
    for node in nodes:
        said = (code_meaning(items(node, "0040A043")), value_text(node))
        first_line, *more = ": ".join(part for part in said if part).splitlines() or [""]
        if first_line:
            yield INDENT * depth + first_line
        yield from (INDENT * (depth + 1) + line for line in more)
        yield from _lines(items(node, "0040A730"), depth + 1)
