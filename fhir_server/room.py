"""The bundles that the FHIR door's jobs need. Made once in `cloudfilm.rooms`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archive.blobs.sealed import Blobs
from kernel.settings import Settings
from records.room import Records


@dataclass(frozen=True, slots=True)
class Fhir:
    """What goes on behind the door, without a request."""

    records: Records
    blobs: Blobs
    settings: Settings

    @property
    def base(self) -> str:
        """The URL of the FHIR endpoint, for what is sent out."""
        web = self.settings.web
        return (web.public_url or f"http://{web.host}:{web.port}").rstrip("/") + "/fhir"

    @property
    def trusted_hosts(self) -> frozenset[str]:
        """`host:port` of the site's own servers that may be called, also by plain http."""
        return frozenset(self.settings.fhir.trusted_hosts)


@dataclass(frozen=True, slots=True)
class Doors:
    """What the door's views ask for by its type, for requests that are carried out behind it."""

    bundles: Mapping[type[Any], Any]
