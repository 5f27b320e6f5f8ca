"""Settings become rooms: the only place where things are built."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from access.audit import begin_chain
from access.revocation_lists import RevocationLists
from access.tokens import Access
from archive.blobs.sealed import Blobs
from archive.blobs.stores import copy_stores, main_store, near_store
from archive.bundles import EncodedBundles
from archive.imaging_study import ImagingStudyProjection
from archive.notices import Notifying
from archive.placing import place_together
from archive.render_cache import RenderCache
from archive.room import Archive
from cloudfilm.definitions import StoredDefinitions
from cloudfilm.documents import DOCUMENTS
from dimse.service import Dimse
from dimse.slots import Slots
from fhir_server.room import Doors, Fhir
from kernel.clock import Clock, SystemClock
from kernel.crypto import KeyRing
from kernel.database import Database, GroupCommit
from kernel.settings import Settings
from kernel.shared_cache import SharedCache
from kernel.suites import COMMERCIAL
from kernel.throttle import Throttle
from kernel.together import Together
from messaging.room import Messaging
from mpi.room import Mpi
from mpi.scoring import Scorer
from mpi.weights import weights_of
from portal.catalogue import texts
from records.audit_events import AuditEventProjection
from records.report_documents import ReportDocumentProjection
from records.room import Records
from records.share_consents import ShareConsentProjection
from records.subscriptions import keep_subscription
from records.validate import Validation
from terminology.cache import Cache
from terminology.concepts import CatalogueConcepts
from terminology.room import Terminology


@dataclass(frozen=True, slots=True)
class Rooms:
    """Everything that doors, jobs and commands use."""

    settings: Settings
    clock: Clock
    database: Database
    keys: KeyRing
    access: Access
    records: Records
    mpi: Mpi
    terminology: Terminology
    archive: Archive
    bundles: EncodedBundles
    dimse: Dimse
    messaging: Messaging
    throttle: Throttle

    def by_kind(self) -> Mapping[type[Any], Any]:
        """Each bundle under its type, for `kernel.http.room` and for jobs."""
        parts = (
            self.access,
            self.records,
            self.mpi,
            self.terminology,
            self.archive,
            self.bundles,
            self.messaging,
            Notifying(self.archive, self.messaging),
            Fhir(self.records, self.archive.blobs, self.settings),
            self.settings,
            self.database,
            self.dimse,
            self.throttle,
        )
        bundles: dict[type[Any], Any] = {type(part): part for part in (*parts, self.keys, self)}
        return bundles | {Doors: Doors(bundles)}

    def close(self) -> None:
        """Give back what is held."""
        self.database.close()


def revocation_lists(settings: Settings) -> RevocationLists:
    """The lists of this host, signed by any authority whose certificates a door takes."""
    authorities = (
        settings.access.certificate_authorities, settings.web.tls_client_ca, settings.dimse.tls_ca,
        settings.mllp.tls_client_ca,
    )  # fmt: skip
    return RevocationLists(settings.access.revocation_lists, authorities)


def build_rooms(settings: Settings, clock: Clock | None = None) -> Rooms:
    """Build the rooms of one process. Raises InvalidSetting."""
    clock = clock or SystemClock()
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = KeyRing.load(settings.data_dir / "keys" / "ring.json", settings.suite)
    database = Database(
        settings.database.url, settings.database.pool_size, keys, seals=settings.database.seals
    )
    if keys.suite is COMMERCIAL:
        settings = replace(settings, blobs=replace(settings.blobs, suite=keys.suite.blobs))
        begin_chain(database, "sm3")
    access = Access(database, clock, keys, settings.access, DOCUMENTS, revocation_lists(settings))
    definitions = Cache()
    records = Records(
        database,
        clock,
        keys,
        settings.access.institution,
        {
            "ImagingStudy": ImagingStudyProjection(),
            "AuditEvent": AuditEventProjection(),
            "Consent": ShareConsentProjection(),
            "DocumentReference": ReportDocumentProjection(),
        },
        CatalogueConcepts(definitions),
        Validation(StoredDefinitions(definitions)),
        keep_subscription,
        settings.fhir.references_must_exist,
    )
    terminology = Terminology(database, clock, records, definitions)
    mpi = Mpi(database, clock, keys, records, Scorer(weights_of(settings.mpi)))
    store = main_store(settings.blobs)
    blobs = Blobs(
        store, keys, clock, settings.blobs, copy_stores(settings.blobs),
        near_store(settings.blobs, store, settings.data_dir / "cache" / "near"),
    )  # fmt: skip
    shared = SharedCache(settings.cache.url) if settings.cache.url else None
    archive = Archive(
        database, blobs, mpi, clock, settings.archive, settings.access.institution,
        Together(place_together), GroupCommit(database),
        RenderCache(
            settings.data_dir / "cache" / "rendered", keys, settings.archive.cache_bytes, shared,
            settings.cache.keep_s,
        ),
    )  # fmt: skip
    dimse = Dimse(access, archive, clock, settings.dimse, Slots(settings.data_dir / "slots"))
    messaging = Messaging(database, clock, keys, access, texts, settings.language, settings.web.public_url)
    return Rooms(
        settings, clock, database, keys, access, records, mpi, terminology, archive, EncodedBundles(), dimse,
        messaging, Throttle(settings.web.requests_per_minute, shared),
    )  # fmt: skip
