"""Loading code systems, value sets and maps from files into rows, in batches, each version beside the others.

A FHIR package (`.tgz`), a folder or a file of FHIR JSON; CSV with one row a concept. A load that is cut short
leaves a definition that is not ready; the next load of the same version starts it again. R4 4.8 (CodeSystem).
"""

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pypinyin import Style, lazy_pinyin
from sqlalchemy import delete, insert, select, update

from access.audit import note
from access.caller import Action, Caller
from kernel.database import table_of
from kernel.errors import CloudfilmError, Kind
from records.indexing import fold
from terminology.code_system import DocumentCodeSystem, names_of
from terminology.concept import INACTIVE_STATUSES, Concept, Designation, Property
from terminology.layouts import Layout
from terminology.model import ConceptRow, Definition, MappingRow, ParentRow, PropertyRow
from terminology.room import Terminology
from terminology.rows import more_of
from terminology.translate import equivalence_of

BATCH = 1000
LARGEST_MEMBER = 512 * 1024 * 1024
KINDS = ("CodeSystem", "ValueSet", "ConceptMap")

Progress = Callable[[str, int], None]  # what is being loaded, and how many of it until now


class NotLoadable(CloudfilmError):
    """A file that holds nothing that can be loaded, or that is damaged."""

    kind = Kind.INVALID

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} cannot be loaded: {reason}.")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load put in place."""

    kind: str
    url: str
    version: str
    concepts: int


def no_progress(_what: str, _count: int) -> None:
    """For those who do not watch."""


def load_documents(
    terminology: Terminology, caller: Caller, path: Path, progress: Progress = no_progress
) -> list[Loaded]:
    """Load a FHIR package, a folder, or one JSON file. Raises NotLoadable or Forbidden."""
    found = [
        load_document(terminology, caller, document, path.name, progress) for document in _documents(path)
    ]
    if not found:
        raise NotLoadable(path.name, "it has no CodeSystem, ValueSet or ConceptMap with a url")
    return found


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    for name, content in _json_files(path):
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            raise NotLoadable(name, "it is not JSON") from None
        given = [document]
        if isinstance(document, dict) and document.get("resourceType") == "Bundle":
            given = [each.get("resource") for each in document.get("entry") or () if isinstance(each, dict)]
        for each in given:
            if isinstance(each, dict) and each.get("resourceType") in KINDS and each.get("url"):
                yield each


def _json_files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            yield file.name, file.read_bytes()
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as package:
            for member in package:
                if member.isfile() and member.name.endswith(".json") and "/." not in member.name:
                    if member.size > LARGEST_MEMBER:
                        raise NotLoadable(member.name, "it is too large")
                    opened = package.extractfile(member)
                    if opened is not None:
                        yield member.name, opened.read()
    else:
        yield path.name, path.read_bytes()


def load_document(
    terminology: Terminology,
    caller: Caller,
    document: dict[str, Any],
    source: str,
    progress: Progress = no_progress,
) -> Loaded:
    """Load one CodeSystem, ValueSet or ConceptMap document. Raises Forbidden."""
    kind = str(document["resourceType"])
    if kind == "CodeSystem":
        system = DocumentCodeSystem(document)
        return load_concepts(
            terminology,
            caller,
            system.header,
            ((concept, system.parents(concept.code)) for concept in system.concepts()),
            source,
            progress,
        )
    header = document if kind == "ValueSet" else {**document, "group": []}
    definition_id = _begin(terminology, caller, header, source)
    count = 0
    if kind == "ConceptMap":
        count = _load_mappings(terminology, definition_id, document, progress)
    return _finish(terminology, caller, definition_id, header, count)


def load_concepts(
    terminology: Terminology,
    caller: Caller,
    header: dict[str, Any],
    concepts: Iterable[tuple[Concept, tuple[str, ...]]],
    source: str,
    progress: Progress = no_progress,
) -> Loaded:
    """Load concepts, each with its parents, under a CodeSystem header. Raises Forbidden."""
    definition_id = _begin(terminology, caller, header, source)
    batch: list[tuple[int, Concept, tuple[str, ...]]] = []
    seen: set[str] = set()
    count = 0
    for concept, parents in concepts:
        if concept.code in seen:
            continue
        seen.add(concept.code)
        batch.append((count, concept, parents))
        count += 1
        if len(batch) >= BATCH:
            _write(terminology, definition_id, batch)
            progress(str(header.get("url", "")), count)
            batch = []
    _write(terminology, definition_id, batch)
    progress(str(header.get("url", "")), count)
    return _finish(terminology, caller, definition_id, header, count)


def _begin(terminology: Terminology, caller: Caller, header: dict[str, Any], source: str) -> int:
    """A definition that is not ready yet; a half-loaded one of the same version goes."""
    kind, url, version = str(header["resourceType"]), str(header["url"]), str(header.get("version", ""))
    caller.require(Action(kind, "c"))
    with terminology.database.transaction() as session:
        half_loaded = select(Definition.id).where(
            Definition.kind == kind,
            Definition.url == url,
            Definition.version == version,
            Definition.ready.is_(False),
        )
        for old in session.scalars(half_loaded).all():
            _remove(session, old)
        row = Definition(
            kind=kind,
            url=url,
            version=version,
            name=str(header.get("name") or header.get("title") or "")[:200],
            source=source[:200],
            loaded_at=terminology.clock.now(),
            body=json.dumps(header, ensure_ascii=False),
        )
        session.add(row)
        session.flush()
        return row.id


def _finish(
    terminology: Terminology, caller: Caller, definition_id: int, header: dict[str, Any], count: int
) -> Loaded:
    """Put it in place of an older load of the same version, in one step."""
    kind, url, version = str(header["resourceType"]), str(header["url"]), str(header.get("version", ""))
    with terminology.database.transaction() as session:
        replaced = select(Definition.id).where(
            Definition.kind == kind,
            Definition.url == url,
            Definition.version == version,
            Definition.id != definition_id,
        )
        for old in session.scalars(replaced).all():
            _remove(session, old)
        session.execute(
            update(Definition).where(Definition.id == definition_id).values(ready=True, concepts=count)
        )
        named = f"{url}|{version}" if version else url
        note(session, terminology.clock, caller, f"load {kind}", named, detail=f"{count} concepts")
    return Loaded(kind, url, version, count)


def remove(terminology: Terminology, caller: Caller, url: str, version: str) -> int:
    """Remove what was loaded under a URL, and version when one is given. Returns how many definitions
    went."""
    caller.require(Action("CodeSystem", "d"))
    with terminology.database.transaction() as session:
        statement = select(Definition.id).where(Definition.url == url)
        if version:
            statement = statement.where(Definition.version == version)
        ids = session.scalars(statement).all()
        for each in ids:
            _remove(session, each)
        if ids:
            note(session, terminology.clock, caller, "remove CodeSystem", f"{url}|{version}".rstrip("|"))
    return len(ids)


def _remove(session: Any, definition_id: int) -> None:
    for model in (ConceptRow, ParentRow, PropertyRow, MappingRow):
        session.execute(delete(model).where(model.definition_id == definition_id))
    session.execute(delete(Definition).where(Definition.id == definition_id))


def _write(
    terminology: Terminology, definition_id: int, batch: list[tuple[int, Concept, tuple[str, ...]]]
) -> None:
    concepts = [
        {
            "definition_id": definition_id,
            "place": place,
            "code": concept.code[:200],
            "folded_code": concept.code.lower()[:200],
            "display": concept.display,
            "search": search_text(concept),
            "inactive": concept.inactive,
            "more": more_of(concept),
        }
        for place, concept, _ in batch
    ]
    parents = [
        {"definition_id": definition_id, "parent": parent[:200], "child": concept.code[:200]}
        for _, concept, above in batch
        for parent in dict.fromkeys(above)
        if parent != concept.code
    ]
    properties = [
        {
            "definition_id": definition_id,
            "property": each.code[:100],
            "value": each.text[:200],
            "code": concept.code[:200],
        }
        for _, concept, _above in batch
        for each in concept.properties
    ]
    with terminology.database.transaction() as session:
        for model, rows in ((ConceptRow, concepts), (ParentRow, parents), (PropertyRow, properties)):
            if rows:
                session.execute(insert(table_of(model)), rows)


def search_text(concept: Concept) -> str:
    """Every name of a concept, folded; Chinese ones also as they sound, whole and by first letters."""
    names = dict.fromkeys((concept.code, *names_of(concept)))
    words = [fold(name) for name in names]
    for name in names:
        if not name.isascii():
            words.append("".join(lazy_pinyin(name, errors="ignore")))
            words.append("".join(lazy_pinyin(name, style=Style.FIRST_LETTER, errors="ignore")))
    return " ".join(word for word in dict.fromkeys(words) if word)


def _load_mappings(
    terminology: Terminology, definition_id: int, document: dict[str, Any], progress: Progress
) -> int:
    count = 0
    batch: list[dict[str, Any]] = []
    for each in _mappings(document):
        batch.append({"definition_id": definition_id, **each})
        count += 1
        if len(batch) >= BATCH:
            _write_mappings(terminology, batch)
            progress(str(document.get("url", "")), count)
            batch = []
    _write_mappings(terminology, batch)
    return count


def _write_mappings(terminology: Terminology, batch: list[dict[str, Any]]) -> None:
    if batch:
        with terminology.database.transaction() as session:
            session.execute(insert(table_of(MappingRow)), batch)


def _mappings(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for group in document.get("group") or ():
        for element in group.get("element") or ():
            for target in element.get("target") or ({"equivalence": "unmatched"},):
                yield {
                    "source_system": str(group.get("source", "")),
                    "source_code": str(element.get("code", ""))[:200],
                    "target_system": str(group.get("target", "")),
                    "target_code": str(target.get("code", ""))[:200],
                    "target_display": str(target.get("display", "")),
                    "equivalence": equivalence_of(target)[:20],
                    "comment": str(target.get("comment", "")),
                }


def load_csv(
    terminology: Terminology,
    caller: Caller,
    path: Path,
    layout: Layout,
    url: str = "",
    version: str = "",
    progress: Progress = no_progress,
) -> Loaded:
    """Load a code system of one row a concept. Raises NotLoadable or Forbidden."""
    header = {**layout.header, **({"url": url} if url else {}), **({"version": version} if version else {})}
    if not header.get("url"):
        raise NotLoadable(path.name, "name the URL of the code system with --url")
    with _opened(path, layout) as text:
        reader = csv.DictReader(text, delimiter=_delimiter(text))
        columns = {name.strip().lower(): name for name in reader.fieldnames or () if name}
        if not any(name.lower() in columns for name in layout.code):
            raise NotLoadable(path.name, f"it has no column {' or '.join(layout.code)}")
        rows = _csv_concepts(reader, columns, layout)
        return load_concepts(terminology, caller, header, rows, path.name, progress)


def _opened(path: Path, layout: Layout) -> IO[str]:
    """The text, from the file or from the member of a ZIP that the layout names."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith(layout.member)]
            if not layout.member or not names:
                raise NotLoadable(path.name, f"it has no {layout.member or 'file that is looked for'}")
            return _text(archive.read(min(names, key=len)))
    return _text(path.read_bytes())


def _text(raw: bytes) -> IO[str]:
    for encoding in ("utf-8-sig", "gb18030"):  # lists from Chinese sites are often GBK
        try:
            return io.StringIO(raw.decode(encoding), newline="")
        except UnicodeDecodeError:
            continue
    raise NotLoadable("The file", "it is neither UTF-8 nor GB 18030")


def _delimiter(text: IO[str]) -> str:
    first = text.readline()
    text.seek(0)
    return max(",\t;", key=first.count)


def _csv_concepts(
    reader: "csv.DictReader[str]", columns: dict[str, str], layout: Layout
) -> Iterator[tuple[Concept, tuple[str, ...]]]:
    used = {
        name.lower()
        for names in (layout.code, layout.display, layout.definition, layout.parent, layout.synonyms)
        for name in names
    }
    for row in reader:

        def value(names: tuple[str, ...], row: dict[str, str] = row) -> str:
            found = (row.get(columns[name.lower()]) for name in names if name.lower() in columns)
            return next((each.strip() for each in found if each and each.strip()), "")

        code = layout.read_code(value(layout.code))
        if not code:
            continue
        designations = [
            Designation(each.strip(), layout.synonym_language)
            for each in value(layout.synonyms).split(layout.separator)
            if each.strip()
        ]
        properties = []
        for folded, name in columns.items():
            text = (row.get(name) or "").strip()
            if folded in used or not text:
                continue
            if folded.startswith("display:"):
                designations.append(Designation(text, folded.partition(":")[2]))
            elif layout.properties is None or folded in layout.properties:
                properties.append(Property(folded.replace(" ", "_"), "String", text))
        status = value(layout.status).lower()
        concept = Concept(
            code,
            value(layout.display) or code,
            value(layout.definition),
            tuple(designations),
            tuple(properties),
            inactive=status in INACTIVE_STATUSES or status in layout.inactive,
            status=status,
        )
        parents = tuple(
            layout.read_code(each.strip())
            for each in value(layout.parent).split(layout.separator)
            if each.strip()
        )
        yield concept, parents or layout.implied_parents(code)
