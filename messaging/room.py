"""The bundle that messaging's functions need. Made once in `cloudfilm.rooms`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from access.tokens import Access
from kernel.clock import Clock
from kernel.crypto import KeyRing
from kernel.database import Database


@dataclass(frozen=True, slots=True)
class Messaging:
    """The room of messages to people outside."""

    database: Database
    clock: Clock
    keys: KeyRing
    access: Access
    texts: Callable[[str], Mapping[str, str]]  # the catalogue of a language
    language: str  # of messages: the site's
    public_url: str  # for links in messages; empty: messages carry none

    def text(self, template: str, values: Mapping[str, str]) -> str:
        """A message as people read it, from the catalogue."""
        return self.texts(self.language)[f"message.{template}"].format(**values)
