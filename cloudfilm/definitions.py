"""The profiles and codes that validation goes by: the site's own, and those that come with the program."""

import json
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from conformance.library import shipped_document
from kernel.errors import CloudfilmError
from records.model import IndexUri, Resource
from records.parameters import parameter_number
from terminology.cache import Cache
from terminology.catalogue import Catalogue
from terminology.membership import has_code


class StoredDefinitions:
    """Answers from the session's database first."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def profile(self, session: Session, url: str) -> dict[str, Any] | None:
        """A StructureDefinition by its canonical URL: the site's own newest one, else the standard's."""
        rows = select(IndexUri.c.resource_id).where(
            IndexUri.c.parameter == parameter_number("StructureDefinition", "url"), IndexUri.c.value == url
        )
        newest = (
            select(Resource)
            .where(Resource.type == "StructureDefinition", Resource.deleted.is_(False), Resource.id.in_(rows))
            .order_by(Resource.updated_at.desc())
            .limit(1)
        )
        row = session.scalar(newest)
        if row is not None:
            return self._cache.get(("profile", row.id, row.version), lambda: dict(json.loads(row.body)))
        return shipped_document("StructureDefinition", url)

    def has_code(self, session: Session, value_set: str, system: str, code: str) -> bool | None:
        """Whether a code is in a value set; None when the value set, or the system, is not known."""
        try:
            return has_code(Catalogue(session, self._cache), value_set, system, code)
        except CloudfilmError:
            return None
