"""Bundles as joins of text: stored documents go in as they are, and are not parsed again (R4 Bundle)."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from flask import Response

from fhir_server.negotiate import document_answer, fhir_base
from fhir_server.shaping import is_shaped, shaped
from kernel.clock import new_id
from records.search import SearchResult

MATCH: dict[str, object] = {"mode": "match"}
INCLUDE: dict[str, object] = {"mode": "include"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: where its document is, and the document as text; empty for none."""

    full_url: str
    body: str = ""
    search: dict[str, object] = field(default_factory=dict)
    request: dict[str, object] = field(default_factory=dict)
    response: dict[str, object] = field(default_factory=dict)
    outcome: str = ""  # an OperationOutcome as text, in the response

    def text(self) -> str:
        """The entry as JSON."""
        parts = [f'"fullUrl":{json.dumps(self.full_url)}'] if self.full_url else []
        if self.body:
            parts.append(f'"resource":{self.body}')
        if self.search == MATCH:
            parts.append('"search":{"mode":"match"}')
        elif self.search:
            parts.append(f'"search":{json.dumps(self.search, ensure_ascii=False)}')
        if self.request:
            parts.append(f'"request":{json.dumps(self.request, ensure_ascii=False)}')
        if self.response:
            response = json.dumps(self.response, ensure_ascii=False)
            if self.outcome:
                response = f'{response[:-1]},"outcome":{self.outcome}}}'
            parts.append(f'"response":{response}')
        return "{" + ",".join(parts) + "}"


def entries_of(found: SearchResult) -> list[Entry]:
    """The entries of a searchset, each document with as much of it as the client asks for."""
    base, form = fhir_base(), shaped if is_shaped() else str
    return [
        Entry(f"{base}/{each.resource_type}/{each.logical_id}", form(each.body), mode)
        for mode, page in ((MATCH, found.matches), (INCLUDE, found.included))
        for each in page
    ]


def bundle_answer(
    type_: str, entries: Iterable[Entry], links: Iterable[tuple[str, str]], total: int | None = None
) -> Response:
    """A Bundle of some type with its entries and links."""
    head = f'{{"resourceType":"Bundle","id":"{new_id()}","type":"{type_}"'
    if total is not None:
        head += f',"total":{total}'
    shown = [{"relation": relation, "url": url} for relation, url in links]
    head += f',"link":{json.dumps(shown)}' if shown else ""
    texts = [entry.text() for entry in entries]
    return document_answer(head + (f',"entry":[{",".join(texts)}]' if texts else "") + "}")
