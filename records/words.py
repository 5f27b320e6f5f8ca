"""Full text: the words of a document, for `_text` (its narrative) and `_content` (all of it).

Letters make words; of Chinese, every character and every two that stand together is a word, so that any part
of a text is found without a dictionary. The rows are made by a follower of the change feed: a write does not
wait for them, and they are there a moment later. R4 3.1.1.4.2.

A keyed hash stands in place of each word, found by equality. So that words of letters are found by their
beginnings nevertheless, these are words as well, of what is told in a text: codes and addresses have none.
In clear, where nothing is sealed, the index finds beginnings by itself.
"""

import re
from collections.abc import Iterator, Sequence
from html import unescape
from itertools import chain
from typing import Any

import orjson
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from kernel.changes import Change
from kernel.database import table_of
from kernel.sealed_text import sealing_of
from kernel.writes import write_all
from records.indexing import fold
from records.model import IndexHiddenWord, IndexWord, Resource
from records.parameters import HIDDEN_PARAMETERS

MOST_WORDS, MOST_LETTERS, MOST_CHARACTERS = 5000, 64, 200_000
MOST_HIDDEN = 4 * MOST_WORDS  # the beginnings of words among them
BEGINNING = range(2, 21)  # letters; two tell enough with a digit: L4-L5, T2WI
IDEOGRAPHS = "\u3400-\u9fff\uf900-\ufaff"
PIECE = re.compile(rf"[{IDEOGRAPHS}]+|[^\W_{IDEOGRAPHS}]+(?:[.-][^\W_{IDEOGRAPHS}]+)*")
TOLD = re.compile(rf"[{IDEOGRAPHS}]|\S\s+\S")  # in people's words, for which a code is too short
TAG = re.compile(r"<[^>]*>")
NOT_CONTENT = frozenset({"resourceType", "div", "data", "versionId", "lastUpdated"})
PEOPLE = frozenset(type_ for type_, codes in HIDDEN_PARAMETERS.items() if "telecom" in codes)
NOT_OF_PEOPLE = frozenset({"identifier", "telecom", "address"})  # which their index hides as well
NUMBER = re.compile(r"\d.*\d.*\d.*\d.*\d")  # of a document, or of a telephone: nowhere of a person
INSERTS = {table: insert(table) for table in (IndexHiddenWord, IndexWord)}


def words_of(text: str) -> tuple[str, ...]:
    """The words that a text asks for: of three Chinese characters, the two pairs."""
    return tuple(dict.fromkeys(_words(text, alone=False)))


def _words(text: str, alone: bool) -> Iterator[str]:
    for piece in PIECE.findall(fold(text[:MOST_CHARACTERS])):
        if piece[0] < "\u2e80":
            yield piece[:MOST_LETTERS]
            continue
        if alone or len(piece) == 1:
            yield from piece
        yield from (piece[at : at + 2] for at in range(len(piece) - 1))


def narrative_of(document: dict[str, Any]) -> str:
    """The narrative without its markup."""
    text = document.get("text")
    div = text.get("div") if isinstance(text, dict) else None
    return unescape(TAG.sub(" ", div)) if isinstance(div, str) else ""


def _texts(value: Any, passed_over: frozenset[str] = NOT_CONTENT | NOT_OF_PEOPLE) -> Iterator[str]:
    """The texts within; of what is named or contained there, never a person's numbers."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key not in passed_over:
                yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


def word_rows(document: dict[str, Any], hidden: bool) -> dict[str, bool]:
    """Each word of a document, and whether it stands in the narrative.

    hidden: for the index of hidden words, which wants their beginnings too.
    """
    is_person = document.get("resourceType") in PEOPLE
    passed_over = NOT_CONTENT | NOT_OF_PEOPLE if is_person else NOT_CONTENT
    texts = sorted(_texts(document, passed_over), key=lambda text: TOLD.search(text) is None)
    found: dict[str, bool] = {}
    for text, in_narrative in chain(((narrative_of(document), True),), ((each, False) for each in texts)):
        is_told = hidden and (in_narrative or TOLD.search(text) is not None)
        for word in _words(text, alone=True):
            if word not in found and not (is_person and NUMBER.search(word)):
                found[word] = in_narrative
                for beginning in _beginnings(word) if is_told else ():
                    found.setdefault(beginning, in_narrative)
            if len(found) >= (MOST_HIDDEN if hidden else MOST_WORDS):
                return found
    return found


def _beginnings(word: str) -> Iterator[str]:
    """What a word of letters is found by. A number is found whole: what begins like it has no meaning."""
    if word[0] < "\u2e80" and not NUMBER.search(word):
        for length in BEGINNING:
            if length >= len(word):
                return
            if word[length - 1] not in ".-" and (length > 2 or word[1].isdigit()):
                yield word[:length]


def index_words(session: Session, resource_id: int, body: str) -> None:
    """Put a document's words in place of those it had: hidden, if anything is sealed."""
    connection = session.connection()
    for table in INSERTS:
        connection.execute(delete(table).where(table.c.resource_id == resource_id))
    if body:
        hidden = sealing_of(connection.dialect).seals
        rows = [
            {"resource_id": resource_id, "word": word, "in_narrative": in_narrative}
            for word, in_narrative in word_rows(orjson.loads(body), hidden).items()
        ]
        write_all(connection, [(INSERTS[IndexHiddenWord if hidden else IndexWord], rows)])


def follow_words(session: Session, change: Change) -> None:
    """Keep the words of a document that was written or deleted: subscribed to the change feed."""
    type_, _, logical_id = change.subject.partition("/")
    table = table_of(Resource)
    row = session.execute(
        select(table.c.id, table.c.body, table.c.version).where(
            table.c.type == type_, table.c.logical_id == logical_id
        )
    ).first()
    if row is not None and row.version == change.data.get("version", row.version):
        index_words(session, row.id, row.body)


def reindex_words(session: Session, rows: Sequence[tuple[int, str]]) -> None:
    """Make the words of some documents again."""
    for resource_id, body in rows:
        index_words(session, resource_id, body)
