"""The XHTML of narratives: well formed, and of the parts that a narrative may have (R4 2.8.0, txt-1).

That a narrative has some text (txt-2) is not asked for: the standard's own examples have none here and there.
"""

import re
from html.entities import html5
from typing import Any

from defusedxml import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]

XHTML = "{http://www.w3.org/1999/xhtml}"
ELEMENTS = frozenset(
    """
    a abbr acronym address b bdo big blockquote br caption cite code col colgroup dd del dfn div dl dt em h1
    h2 h3 h4 h5 h6 hr i img ins kbd li map area ol p pre q samp small span strong sub sup table tbody td
    tfoot th thead tr tt u ul var
    """.split()  # noqa: SIM905
)
ENTITY = re.compile(r"&(\w+);")
BUILT_IN = frozenset({"amp", "lt", "gt", "quot", "apos"})


def fault_of_narrative(value: Any) -> str:
    """What is wrong with a narrative's div; empty when nothing is."""
    if not isinstance(value, str):
        return "A narrative is a text"
    try:
        root = fromstring(ENTITY.sub(_entity, value))
    except (DefusedXmlException, SyntaxError, ValueError):
        return "The narrative is not well-formed XHTML (txt-1)"
    if root.tag not in ("div", f"{XHTML}div"):
        return "A narrative is a div (txt-1)"
    for each in root.iter():
        if not isinstance(each.tag, str):
            continue
        name = each.tag.removeprefix(XHTML)
        if name not in ELEMENTS:
            return f"A narrative has no {name[:32]!r} (txt-1)"
        for attribute, text in each.attrib.items():
            if attribute.lower().startswith("on") or "javascript:" in text.lower():
                return f"A narrative does nothing by itself, as {attribute[:32]!r} would (txt-1)"
    return ""


def _entity(match: re.Match[str]) -> str:
    """The character of an entity that HTML knows and XML does not."""
    if match[1] in BUILT_IN:
        return match[0]
    return html5.get(f"{match[1]};", match[0])
