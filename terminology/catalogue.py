"""Where a definition is found by its canonical URL: what the request brings, the site's own documents, what
was loaded from files, what comes with the program, and the grammars; every version of it, the newest first.

A document written over REST is found from its commit on, in every process: it is looked up in the search
index. R4 2.24.0.6 (canonical URLs), 4.8 (CodeSystem), 4.9 (ValueSet), 4.10 (ConceptMap).
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel.errors import CloudfilmError, Kind
from records.hashing import hash_of
from records.model import IndexReference, IndexUri, Resource
from records.parameters import parameter_number
from terminology import dicom, shipped
from terminology.cache import Cache
from terminology.code_system import CodeSystem, DocumentCodeSystem, SupplementedCodeSystem
from terminology.concept import matches_version, version_key
from terminology.grammars import GRAMMARS
from terminology.model import Definition
from terminology.rows import RowCodeSystem
from terminology.ucum import UCUM, UcumCodeSystem

Document = dict[str, Any]


class DefinitionNotFound(CloudfilmError):
    """No code system, value set or concept map has this canonical URL, or not this version."""

    kind = Kind.NOT_FOUND

    def __init__(self, kind: str, url: str, version: str = "", known: Sequence[str] = ()) -> None:
        named = f"{url}|{version}" if version else url
        versions = f" Valid versions: {' or '.join(known)}." if known else ""
        super().__init__(f"A definition for the {kind} '{named}' could not be found.{versions}")
        self.what, self.url, self.version, self.known = kind, url, version, tuple(known)


class VersionDiffers(CloudfilmError):
    """A code system is not of the version that the client insists on."""

    kind = Kind.UNPROCESSABLE
    issue_type = "exception"

    def __init__(self, system: CodeSystem, wanted: str) -> None:
        super().__init__(
            f"The version '{system.version}' is not allowed for system '{system.url}': required "
            f"to be '{wanted}' "
            "by a version-check parameter"
        )


class SupplementMissing(CloudfilmError):
    """A supplement that the request, or a value set, counts on is not there."""

    kind = Kind.UNPROCESSABLE
    issue_type = "not-found"

    def __init__(self, canonical: str) -> None:
        super().__init__(f"Required supplement not found: {canonical}")


BROUGHT, STORED, LOADED, SHIPPED, FRAGMENT = range(5)
"""Where a definition comes from. What the request brings comes first; a mere fragment comes last."""


@dataclass(frozen=True, slots=True)
class Found:
    """One version of a definition, and how it is read."""

    version: str
    rank: int  # of places that hold the same version, the first is asked
    read: Callable[[], Any]


class Catalogue:
    """Definitions as one request sees them, through one session."""

    def __init__(
        self,
        session: Session,
        cache: Cache,
        brought: Iterable[Document] = (),
        *,
        default_versions: dict[str, str] | None = None,
        forced_versions: dict[str, str] | None = None,
        checked_versions: dict[str, str] | None = None,
        supplements: Iterable[str] = (),
    ) -> None:
        """brought: documents that the request itself carries (`tx-resource`, `valueSet`).
        default_versions, forced_versions, checked_versions: `system-version`, `force-system-version` and
        `check-system-version` of R4 $expand."""
        self.session = session
        self._cache = cache
        self._brought = [each for each in brought if isinstance(each, dict)]
        self.default_versions = default_versions or {}
        self.forced_versions = forced_versions or {}
        self.checked_versions = checked_versions or {}
        self.wanted_supplements = tuple(supplements)
        self._asked: dict[tuple[str, ...], Any] = {}

    def code_system(self, url: str, version: str = "") -> CodeSystem:
        """A code system; without a version the newest. Raises DefinitionNotFound."""
        version = (
            self.forced_versions.get(url)
            or version
            or self.default_versions.get(url)
            or self.checked_versions.get(url, "")
        )
        key = ("CodeSystem", url, version)
        if key not in self._asked:
            self._asked[key] = self._with_supplements(self._choose("CodeSystem", url, version))
        found: CodeSystem = self._asked[key]
        checked = self.checked_versions.get(url)
        if checked and not matches_version(found.version, checked):
            raise VersionDiffers(found, checked)
        return found

    def value_set(self, url: str, version: str = "") -> Document:
        """A value set; without a version the newest. Raises DefinitionNotFound."""
        base, _, written = url.partition("|")
        version = version or written
        if not version:
            version = self.default_versions.get(base, "")
        key = ("ValueSet", base, version)
        if key not in self._asked:
            self._asked[key] = self._value_set(base, version)
        found: Document = self._asked[key]
        return found

    def _value_set(self, url: str, version: str) -> Document:
        try:
            document: Document = self._choose("ValueSet", url, version)
        except DefinitionNotFound:
            implied = self._implied(url)
            if implied is None:
                raise
            document = implied
        return document

    def _implied(self, url: str) -> Document | None:
        """Value sets that follow from a code system (R4 4.9.5): its `valueSet`, UCUM, SNOMED CT `?fhir_vs`,
        LOINC `/vs`, context groups of DICOM."""
        group = dicom.context_group(url)
        if group is not None:
            return group
        include: Document | None = None
        system = shipped.implicit_code_systems().get(url)
        base, question, query = url.partition("?")
        if system is None:
            system = next(
                (
                    str(each["url"])
                    for each in self._brought
                    if each.get("resourceType") == "CodeSystem" and each.get("valueSet") == url
                ),
                None,
            )
        if system is not None:
            include = {"system": system}
        elif url in (f"{UCUM}/vs", "http://loinc.org/vs"):
            include = {"system": url.removesuffix("/vs")}
        elif question and (query == "fhir_vs" or query.startswith("fhir_vs=")):
            isa = query.removeprefix("fhir_vs").removeprefix("=")
            include = {"system": base}
            if isa.startswith("isa/"):
                include["filter"] = [{"property": "concept", "op": "is-a", "value": isa[4:]}]
            elif isa:
                return None
        if include is None:
            return None
        return {"resourceType": "ValueSet", "url": url, "status": "active", "compose": {"include": [include]}}

    def concept_maps(self, url: str = "", version: str = "") -> list[tuple[Document, int | None]]:
        """The concept maps of a URL, or all; each with the number of its rows when it was loaded."""
        found: list[tuple[Document, int | None]] = [
            (each, None) for each in self._brought if each.get("resourceType") == "ConceptMap"
        ]
        statement = select(Resource.body).where(Resource.type == "ConceptMap", Resource.deleted.is_(False))
        if url:
            statement = statement.where(Resource.id.in_(_by_url("ConceptMap", url)))
        found += [(json.loads(body), None) for body in self.session.scalars(statement)]
        loaded = select(Definition).where(Definition.kind == "ConceptMap", Definition.ready)
        if url:
            loaded = loaded.where(Definition.url == url)
        found += [(json.loads(row.body), row.id) for row in self.session.scalars(loaded)]
        if url:
            found += [(shipped.document(entry), None) for entry in shipped.entries("ConceptMap", url)]
        else:
            found += [
                (shipped.document(entry), None) for entry in shipped.index() if entry.type == "ConceptMap"
            ]
        return [
            each
            for each in found
            if (not url or each[0].get("url") == url) and (not version or each[0].get("version") == version)
        ]

    def versions(self, kind: str, url: str) -> list[str]:
        """The versions that there are, the newest first."""
        return [each.version for each in self._candidates(kind, url)]

    def _choose(self, kind: str, url: str, version: str) -> Any:
        candidates = self._candidates(kind, url)
        for each in candidates:
            if not version or matches_version(each.version, version):
                return each.read()
        raise DefinitionNotFound(kind, url, version, [each.version for each in candidates if each.version])

    def _candidates(self, kind: str, url: str) -> list[Found]:
        found = [
            Found(str(each.get("version", "")), BROUGHT, lambda each=each: self._as(kind, each))  # type: ignore[misc]
            for each in self._brought
            if each.get("resourceType") == kind
            and each.get("url") == url
            and each.get("content") != "supplement"
        ]
        statement = select(Resource).where(
            Resource.type == kind, Resource.deleted.is_(False), Resource.id.in_(_by_url(kind, url))
        )
        for row in self.session.scalars(statement):
            key = ("stored", row.id, row.version)
            document = self._cache.get(("body", *key), lambda row=row: json.loads(row.body))  # type: ignore[misc]
            if document.get("url") == url and document.get("content") != "supplement":
                found.append(
                    Found(
                        str(document.get("version", "")),
                        STORED,
                        lambda key=key, document=document: self._cache.get(  # type: ignore[misc]
                            key, lambda: self._as(kind, document)
                        ),
                    )
                )
        loaded = select(Definition).where(Definition.kind == kind, Definition.url == url, Definition.ready)
        for definition in self.session.scalars(loaded):
            found.append(
                Found(definition.version, LOADED, lambda row=definition: self._loaded(kind, row))  # type: ignore[misc]
            )
        found += _built_in(kind, url, self._cache)
        found.sort(key=lambda each: each.rank)
        found.sort(key=lambda each: version_key(each.version), reverse=True)
        found.sort(key=lambda each: (each.rank > BROUGHT, each.rank == FRAGMENT))
        return found

    def _as(self, kind: str, document: Document) -> Any:
        return DocumentCodeSystem(document) if kind == "CodeSystem" else document

    def _loaded(self, kind: str, definition: Definition) -> Any:
        if kind == "CodeSystem":
            return RowCodeSystem(self.session, definition)
        return self._cache.get(("loaded", definition.id), lambda: json.loads(definition.body))

    def _with_supplements(self, system: CodeSystem) -> CodeSystem:
        """Names in other languages and properties that a site adds to a code system of somebody else."""
        supplements = [
            each
            for each in self._brought
            if each.get("content") == "supplement"
            and str(each.get("supplements", "")).partition("|")[0] == system.url
            and self._is_wanted(each)
        ]
        stored = select(Resource.body).where(
            Resource.type == "CodeSystem",
            Resource.deleted.is_(False),
            Resource.id.in_(
                select(IndexReference.c.resource_id).where(
                    IndexReference.c.parameter == parameter_number("CodeSystem", "supplements"),
                    IndexReference.c.target == hash_of(system.url),
                )
            ),
        )
        supplements += [json.loads(body) for body in self.session.scalars(stored)]
        if not supplements:
            return system
        return SupplementedCodeSystem(system, [DocumentCodeSystem(each) for each in supplements])

    def _is_wanted(self, document: Document) -> bool:
        """A supplement that the request brings takes effect when the request, or a value set, asks for it."""
        url, version = str(document.get("url", "")), str(document.get("version", ""))
        return any(wanted in (url, f"{url}|{version}") for wanted in self.wanted_supplements)

    def want_supplement(self, canonical: str) -> None:
        """Let a supplement that the request brings take effect from now on."""
        self.wanted_supplements += (canonical,)
        self._asked.clear()

    def require_supplements(self) -> None:
        """Raise SupplementMissing unless every supplement that is counted on is there."""
        for canonical in self.wanted_supplements:
            if self.supplement(canonical) is None:
                raise SupplementMissing(canonical)

    def supplement(self, canonical: str) -> Document | None:
        """A supplement by its URL."""
        url, _, version = canonical.partition("|")
        for each in self._brought:
            if each.get("url") == url and (not version or each.get("version") == version):
                return each
        for body in self.session.scalars(
            select(Resource.body).where(
                Resource.type == "CodeSystem",
                Resource.deleted.is_(False),
                Resource.id.in_(_by_url("CodeSystem", url)),
            )
        ):
            document: Document = json.loads(body)
            if not version or document.get("version") == version:
                return document
        entries = [each for each in shipped.entries("CodeSystem", url) if version in ("", each.version)]
        return shipped.document(entries[0]) if entries else None


def _by_url(kind: str, url: str) -> Any:
    return select(IndexUri.c.resource_id).where(
        IndexUri.c.parameter == parameter_number(kind, "url"), IndexUri.c.value == url[:500]
    )


def _built_in(kind: str, url: str, cache: Cache) -> list[Found]:
    """What comes with the program."""
    found = []
    if kind == "CodeSystem":
        if url == UCUM:
            return [Found(UcumCodeSystem().version, SHIPPED, lambda: cache.get((UCUM,), UcumCodeSystem))]
        if url in GRAMMARS:
            return [Found("", SHIPPED, GRAMMARS[url])]
        if url in dicom.FRAGMENTS:
            system = dicom.FRAGMENTS[url]
            rank = SHIPPED if system == "DCM" else FRAGMENT
            found.append(Found(dicom.VERSION, rank, lambda: dicom.code_system(system)))
    for entry in shipped.entries(kind, url):
        if entry.content in ("not-present", "supplement") and (found or entry.content == "supplement"):
            continue

        def read(entry: shipped.Entry = entry) -> Any:
            document = shipped.document(entry)
            if kind != "CodeSystem":
                return document
            return cache.get(("shipped", entry.id), lambda: DocumentCodeSystem(document))

        found.append(Found(entry.version, SHIPPED, read))
    return found
