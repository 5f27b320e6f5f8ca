"""Every setting that a host needs to start: one frozen dataclass for each room or door.

A setting is one typed field with its default and its meaning. The loader (`cloudfilm.load_settings`), the
administrator's page and docs/settings.md are made from these fields. What a site changes while running
(nodes, roles, policies, schedules) is data with history, not a setting.

A field is set in TOML (`[dimse] port = 11112`) or by environment (`CLOUDFILM_DIMSE__PORT=11112`); the
environment wins.
"""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where facts are kept."""

    url: str = ""  # sqlite:///file or postgresql://user@host/name; empty: cloudfilm.db in the data directory
    pool_size: int = 16  # connections a process keeps; under load up to 64 more, and 8 that read single rows
    seals: bool = True  # documents and names are sealed in their rows; off only while older code runs beside


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobsSettings:
    """Where bytes are kept."""

    url: str = ""  # file:///folder, or s3://bucket/prefix?endpoint=https://host; empty: in the data directory
    cold_url: str = ""  # a second store, for studies that the storage policy moves there; empty: none
    copies: tuple[str, ...] = ()  # stores that hold every object too, as offsite=s3://bucket/prefix
    chunk_bytes: int = 262144  # plain bytes in one sealed chunk: the unit of random access
    near_bytes: int = 10737418240  # of what is read of s3://, kept sealed on this machine; 0: none
    suite: str = "AES-256-GCM"  # or SM4-GCM, for the commercial-cryptography assessment
    durable: bool = True  # wait for the disk before acknowledging; only a throw-away test turns it off
    free_bytes: int = 268435456  # below this much free space nothing more is accepted
    low_bytes: int = 21474836480  # below this much in any of the stores an alarm is raised


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """Where jobs wait."""

    url: str = "table:"  # table: (the database) or redis://host:port/n
    workers: int = 1  # worker processes


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """What machines keep together and may lose: rendered images, and counts of requests."""

    url: str = ""  # redis://host:port/n, not the queue's: it may evict; empty: each machine by itself
    keep_s: int = 86400  # a rendered image is kept so long


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """The HTTP server."""

    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0 for every one of this machine's
    port: int = 8080
    public_url: str = ""  # how browsers reach it, as https://film.example.org; empty: taken from the request
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks whose X-Forwarded-* headers are believed
    hand_over_files: bool = False  # the proxy is nginx as in docker/ and sends files itself
    processes: int = 4  # server processes: two for each processor keep all of them busy
    threads: int = 32  # requests that each process serves at once
    client_timeout_s: float = 60.0  # a client that sends and takes nothing for so long is let go
    tls: str = "auto"  # on, off, or auto: on when it listens to other machines and no trusted proxy is named
    tls_certificate: str = ""  # PEM file of the certificate; empty: one of our own in the data directory
    tls_key: str = ""  # PEM file of its key
    tls_client_ca: str = ""  # PEM file of authorities whose client certificates sign in; empty: none do
    cors_origins: tuple[str, ...] = ()  # other sites whose pages may call; * for any
    max_body_bytes: int = 17179869184  # the largest request body
    requests_per_minute: int = 0  # of one account, app or visitor; 0: no limit

    @property
    def site(self) -> str:
        """How people reach the site, for links that no request asked for; without a slash at its end."""
        return (self.public_url or f"http://localhost:{self.port}").rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirSettings:
    """The FHIR server."""

    max_body_bytes: int = 67108864  # the largest resource or bundle
    max_entries: int = 5000  # entries of a batch or transaction
    trusted_hosts: tuple[str, ...] = ()  # host:port of own servers that may be notified, also by http
    references_must_exist: bool = False  # refuse references to what is not there, deletions of what is named


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSettings:
    """WebSockets, on which events are pushed. TLS is that of the web server."""

    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0 for every one of this machine's
    port: int = 8081  # where sockets are opened
    enabled: bool = True  # whether `cloudfilm serve` runs the role
    public_url: str = ""  # how clients reach it, as wss://film.example.org; empty: the web host, this port
    max_connections: int = 20000  # sockets of the process
    max_message_bytes: int = 65536  # the largest message that a client sends
    queue_messages: int = 256  # a client with more messages waiting is closed
    recheck_s: float = 30.0  # how soon a token that was revoked ends the sockets it opened
    ping_s: float = 30.0  # how often an idle socket is asked whether it lives


@dataclass(frozen=True, slots=True, kw_only=True)
class DimseSettings:
    """The DIMSE application entity."""

    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0 for every one of this machine's
    port: int = 11112
    ae_title: str = "CLOUDFILM"  # at most 16 characters (PS3.5 6.2, AE)
    processes: int = 2  # receiving processes that share the port
    max_associations: int = 64  # for each process
    max_pdu_bytes: int = 131072  # largest PDU that is accepted (PS3.8 D.1)
    idle_timeout_s: float = 60.0  # an association silent for longer is aborted
    private_sop_classes: tuple[str, ...] = ()  # storage SOP class UIDs accepted beyond the standard's
    utc_offset: str = "+08:00"  # of dates and times of studies, where a query asks for another zone
    tls_port: int = 0  # port for DICOM over TLS, beside the plain one; 0: none
    tls_certificate: str = ""  # PEM file of our certificate, for the TLS port and for nodes sent to over TLS
    tls_key: str = ""  # PEM file of its key
    tls_ca: str = ""  # PEM file of the authorities of nodes' certificates, which are then demanded


@dataclass(frozen=True, slots=True, kw_only=True)
class MllpSettings:
    """The HL7 v2 listener."""

    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0 for every one of this machine's
    port: int = 2575
    enabled: bool = True
    idle_timeout_s: float = 600.0  # a connection silent for longer is closed
    max_message_bytes: int = 67108864  # the largest message
    max_connections: int = 256  # connections at once
    processes: int = 1  # listening processes that share the port; more of them pay on PostgreSQL
    threads: int = 4  # groups of messages that each process handles at once; a group shares a commit
    tls_certificate: str = ""  # PEM file of the server's certificate; empty: no TLS
    tls_key: str = ""  # PEM file of its key
    tls_client_ca: str = ""  # PEM file of authorities whose client certificates are demanded; empty: none is
    utc_offset: str = "+08:00"  # of times that name no offset
    sequence_numbers: tuple[str, ...] = ()  # senders (MSH-3) that keep the sequence number protocol (MSH-13)
    answer_batches_as_one: bool = False  # one batch of acknowledgements for a batch, not one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class MpiSettings:
    """The master patient index."""

    weights: str = ""  # file that `cloudfilm mpi train` wrote; empty: the weights that are shipped


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """Who may come in."""

    session_idle_s: int = 1800  # a browser session unused for longer ends
    session_absolute_s: int = 43200  # a browser session ends after this long in any case
    administrators: str = "one"  # one may do everything; three: system, security and audit apart (MLPS 3)
    second_factor_roles: tuple[str, ...] = ()  # roles that may do nothing until they have a second factor
    token_s: int = 3600  # life of an access token unless it is asked for shorter
    signed_url_s: int = 300  # the longest life of a URL that is signed for a browser's img, object or video
    institution: str = "MAIN"  # code of the institution that owns what arrives without one
    trusted_key_hosts: tuple[str, ...] = ()  # host:port of own servers that clients' key sets may be on
    federation_secrets: tuple[str, ...] = ()  # our secrets at hospitals' OpenID providers, as id:secret
    certificate_authorities: str = ""  # PEM file of who issues people's certificates, SM2 too; empty: any
    revocation_lists: tuple[str, ...] = ()  # authorities' CRLs, as files or folders of them; empty: not asked
    failures_per_address: int = 100  # wrong sign-ins from one address within a quarter of an hour
    password_days: int = 0  # a password older than this has to be changed; 0: never
    audit_collector: str = ""  # tls://host:port that takes audit messages by syslog (RFC 5425); empty: none
    audit_collector_ca: str = ""  # PEM file of the authority of its certificate; empty: the system's own
    loopback_ae: bool = True  # any AE title from this machine itself is a known node (the embedded default)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSettings:
    """The image archive."""

    rest_after_s: float = 10.0  # a study with no new instance for this long is at rest
    strict_search: bool = True  # refuse search attributes that are not known, in place of ignoring them
    max_results: int = 5000  # the most rows of one search answer
    default_results: int = 1000  # rows when the client names no limit
    workitem_days: int = 400  # a workitem that ended is kept this long
    scrub_days: float = 30.0  # within so many days every object is read and proven once; 0: never
    removed_days: int = 30  # what was removed can be brought back for so long; then its bytes go
    refuse_broad_search: bool = False  # 413 for a search without a limit that finds more than max_results
    cache_bytes: int = 2147483648  # of rendered images that are kept ready, below the data directory
    renditions_after_s: float = 5.0  # web renditions are begun this long after a study came to rest
    font: str = ""  # file of a font for text on images; empty: one with Chinese that Debian brings


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSettings:
    """Backups, made by restic: encrypted, incremental, each one whole by itself."""

    repository: str = ""  # as restic names it: /mnt/backup, or s3:https://host/bucket; empty: no backups
    password_file: str = ""  # file that holds the repository's password
    keys_repository: str = ""  # another one, for the key ring; empty: you keep the ring's copy yourself
    keys_password_file: str = ""  # file that holds its password
    every_h: float = 24.0  # hours between two backups that the worker makes
    keep_daily: int = 14  # daily backups that are kept
    keep_monthly: int = 12  # monthly ones


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Figures for Prometheus, for a host without the web role, whose /metrics has them otherwise."""

    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0 for every one of this machine's
    port: int = 0  # where they are served; 0: nowhere


@dataclass(frozen=True, slots=True, kw_only=True)
class TracesSettings:
    """Traces for OpenTelemetry."""

    endpoint: str = ""  # collector that takes OTLP over HTTP, as http://collector:4318; empty: no traces
    share: float = 1.0  # of requests, operations, messages and jobs that are traced: 0.1 is one of ten
    service: str = "cloudfilm"  # what this installation is called there


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Logs: one JSON object a line, without patient data."""

    level: str = "INFO"  # the least that is written: DEBUG, INFO, WARNING or ERROR
    format: str = "text"  # text for people, json for machines


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one host."""

    data_dir: Path = Path("var")  # where everything is kept that has no place of its own
    suite: str = "international"  # or commercial: SM2, SM3 and SM4; an installation stays with its first
    language: str = "zh"  # of pages and messages when a browser states none: zh or en
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    blobs: BlobsSettings = field(default_factory=BlobsSettings)
    queue: QueueSettings = field(default_factory=QueueSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    web: WebSettings = field(default_factory=WebSettings)
    fhir: FhirSettings = field(default_factory=FhirSettings)
    push: PushSettings = field(default_factory=PushSettings)
    dimse: DimseSettings = field(default_factory=DimseSettings)
    mllp: MllpSettings = field(default_factory=MllpSettings)
    mpi: MpiSettings = field(default_factory=MpiSettings)
    access: AccessSettings = field(default_factory=AccessSettings)
    archive: ArchiveSettings = field(default_factory=ArchiveSettings)
    backup: BackupSettings = field(default_factory=BackupSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    traces: TracesSettings = field(default_factory=TracesSettings)
    log: LogSettings = field(default_factory=LogSettings)
