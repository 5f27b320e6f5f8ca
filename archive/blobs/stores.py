"""From settings to stores: what a URL names, the tiers, and the stores that hold copies."""

from pathlib import Path
from urllib.parse import urlsplit

from archive.blobs.disk import DiskStore
from archive.blobs.near import NearStore
from archive.blobs.s3 import S3Store
from archive.blobs.store import BlobStore
from archive.blobs.tiers import COLD, TieredStore
from archive.blobs.traced import TracedStore
from archive.bounded_folder import BoundedFolder
from kernel.errors import InvalidSetting
from kernel.settings import BlobsSettings
from kernel.traces import is_tracing


def open_store(url: str, settings: BlobsSettings, setting: str) -> BlobStore:
    """The store that a URL names. Raises InvalidSetting, which names the setting the URL came from."""
    store = _open(url, settings, setting)
    return TracedStore(store) if is_tracing() else store


def _open(url: str, settings: BlobsSettings, setting: str) -> BlobStore:
    parsed = urlsplit(url)
    if parsed.scheme == "file" and parsed.path:
        return DiskStore(Path(parsed.path), settings.durable, settings.free_bytes)
    if parsed.scheme == "s3":
        return S3Store.at(parsed, setting)
    raise InvalidSetting(setting, url, "use file:///folder or s3://bucket/prefix")


def main_store(settings: BlobsSettings) -> BlobStore:
    """Where blobs arrive, with the cold tier behind it when there is one."""
    primary = open_store(settings.url, settings, "blobs.url")
    if not settings.cold_url:
        return primary
    return TieredStore(primary, {COLD: open_store(settings.cold_url, settings, "blobs.cold_url")})


def near_store(settings: BlobsSettings, main: BlobStore, root: Path) -> NearStore | None:
    """What is read lately of the main store, in a folder of this machine; none where all is at hand."""
    distant = any(urlsplit(url).scheme == "s3" for url in (settings.url, settings.cold_url))
    if not distant or not settings.near_bytes:
        return None
    return NearStore(main, BoundedFolder(root, settings.near_bytes))


def copy_stores(settings: BlobsSettings) -> dict[str, BlobStore]:
    """The stores that every object is copied to, by name (`offsite=s3://bucket`)."""
    found: dict[str, BlobStore] = {}
    for text in settings.copies:
        name, equals, url = text.partition("=")
        if not (equals and name.isidentifier()) or name in found:
            raise InvalidSetting(
                "blobs.copies", text, "write name=URL, each name once: offsite=s3://bucket/prefix"
            )
        found[name] = open_store(url, settings, "blobs.copies")
    return found
