"""What search asks of a terminology service: which codes a value set holds, and what lies under a code.

The service sits above this room; it is passed in where rooms are built. R4 3.1.1.4.10 (:in, :above, :below).
"""

from collections.abc import Iterable
from typing import Protocol

from sqlalchemy.orm import Session

from kernel.errors import CloudfilmError, Kind

Concept = tuple[str, str]  # system and code


class NoTerminology(CloudfilmError):
    """A search that needs a terminology service where there is none."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("The modifiers :in, :not-in, :above and :below need a terminology service.")


class Concepts(Protocol):
    """Answers from the session's database; an unknown value set or system is a CloudfilmError."""

    def members(self, session: Session, value_set: str) -> Iterable[Concept]:
        """The codes of a value set, by its canonical URL (with `|version` where it is given)."""
        ...

    def below(self, session: Session, system: str, code: str) -> Iterable[Concept]:
        """The code itself and all that it subsumes."""
        ...

    def above(self, session: Session, system: str, code: str) -> Iterable[Concept]:
        """The code itself and all that subsume it."""
        ...


class NoConcepts:
    """The service of an installation without one."""

    def members(self, session: Session, value_set: str) -> Iterable[Concept]:
        """Refuses."""
        raise NoTerminology

    def below(self, session: Session, system: str, code: str) -> Iterable[Concept]:
        """Refuses."""
        raise NoTerminology

    def above(self, session: Session, system: str, code: str) -> Iterable[Concept]:
        """Refuses."""
        raise NoTerminology
