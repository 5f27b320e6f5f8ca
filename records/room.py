"""The bundle that the records room's functions need. Made once in `cloudfilm.rooms`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy.orm import Session

from access.audit import Recently
from access.caller import Caller
from kernel.clock import Clock
from kernel.crypto import KeyRing
from kernel.database import Database
from records.concepts import Concepts, NoConcepts
from records.validate import Validation


@dataclass(frozen=True, slots=True)
class Drawn:
    """A document that was drawn just now, as JSON text with its `meta`."""

    version: int
    updated_at: datetime
    body: str


class Projection(Protocol):
    """Draws documents whose facts have their home elsewhere."""

    def draw(self, session: Session, logical_ids: Sequence[str]) -> Mapping[str, Drawn]:
        """The documents of some ids; what is not there is left out."""
        ...


class KeepSubscription(Protocol):
    """Lets a Subscription take effect in the transaction of its write; None: it was deleted."""

    def __call__(
        self,
        records: "Records",
        session: Session,
        caller: Caller,
        logical_id: str,
        document: dict[str, Any] | None,
    ) -> None:
        """Raises InvalidResource or Forbidden."""
        ...


@dataclass(frozen=True, slots=True)
class Records:
    """The room of clinical documents."""

    database: Database
    clock: Clock
    keys: KeyRing
    institution: str  # owns what comes from a caller without an institution
    projections: Mapping[str, Projection] = field(default_factory=dict)  # by resource type
    concepts: Concepts = field(default_factory=NoConcepts)  # what :in, :above and :below are answered by
    validation: Validation = field(default_factory=Validation)  # what is asked of resources that come in
    keep_subscription: KeepSubscription | None = None  # follows writes of Subscription documents
    references_must_exist: bool = False  # what a document names is there, and what others name stays
    recently: Recently = field(default_factory=Recently)
