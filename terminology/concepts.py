"""What search asks of this room: the codes of a value set, and what lies above or below a code (R4
3.1.1.4.10)."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from kernel.errors import CloudfilmError, Kind
from terminology.cache import Cache
from terminology.catalogue import Catalogue
from terminology.compose import Composer

MOST_MEMBERS = 20_000


class TooManyCodes(CloudfilmError):
    """A value set with more codes than one search goes through."""

    kind = Kind.INVALID

    def __init__(self, value_set: str) -> None:
        super().__init__(f"The value set {value_set[:200]} has more than {MOST_MEMBERS} codes.")


class CatalogueConcepts:
    """Answers from the catalogue, within the session that searches."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def members(self, session: Session, value_set: str) -> Iterable[tuple[str, str]]:
        """The codes of a value set by its canonical URL. Raises DefinitionNotFound or TooManyCodes."""
        catalogue = Catalogue(session, self._cache)
        found = []
        for member in Composer(catalogue).members(catalogue.value_set(value_set)):
            found.append(member.key)
            if len(found) > MOST_MEMBERS:
                raise TooManyCodes(value_set)
        return found

    def below(self, session: Session, system: str, code: str) -> Iterable[tuple[str, str]]:
        """The code itself and all that it subsumes. Raises DefinitionNotFound."""
        code_system = Catalogue(session, self._cache).code_system(system)
        return [(system, each) for each in (code, *sorted(code_system.descendants(code)))]

    def above(self, session: Session, system: str, code: str) -> Iterable[tuple[str, str]]:
        """The code itself and all that subsume it. Raises DefinitionNotFound."""
        code_system = Catalogue(session, self._cache).code_system(system)
        return [(system, each) for each in (code, *sorted(code_system.ancestors(code)))]
