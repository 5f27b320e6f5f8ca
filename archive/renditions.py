"""Renditions: what a resting study is looked at by, made once by policy, beside the original.

A lossless form of each frame that a browser decodes fast (HTJ2K or JPEG-LS), and a small JPEG of each image,
so that a long series is on the screen at once and whole soon after. The original stays as it was received;
a rendition can be thrown away and made again.

    {"rules": [{"modalities": ["CT", "MR"], "syntax": "1.2.840.10008.1.2.4.201", "preview": true}]}

The first rule that names the modality (or names none) holds; no rule, no rendition.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.orm import Session

from access.caller import system
from access.document_kind import DocumentKind, current_document
from archive.blobs.store import BlobNotFound
from archive.blobs.tiers import COLD
from archive.documents import parse_marked
from archive.frame_index import FrameIndex, locate_frame
from archive.image_pixel import image_pixel_of
from archive.model import Instance, Series, Study
from archive.recode import frame_in
from archive.render import JPEG, Rendering, Viewport, draw_stored, encode_picture, representative_frame
from archive.renditions_model import Rendition
from archive.retrieve import StoredInstance, find_instances, instance_document
from archive.room import Archive
from archive.transcode import HTJ2K_LOSSLESS, JPEG_LS, UNCOMPRESSED, can_encode
from kernel.changes import Change
from kernel.crypto import DamagedBlob, Seal
from kernel.errors import CloudfilmError, Kind
from kernel.jobs import enqueue, job
from kernel.patience import patiently

log = logging.getLogger(__name__)

PREVIEW = "preview"
PREVIEW_RENDERING = Rendering(viewport=Viewport(512, 512), quality=80, enlarge=False)
SYNTAXES = (HTJ2K_LOSSLESS, JPEG_LS)


class InvalidRenditionPolicy(CloudfilmError):
    """A policy document that cannot be read; says why."""

    kind = Kind.UNPROCESSABLE


@dataclass(frozen=True, slots=True)
class RenditionRule:
    """What the images of some modalities get."""

    modalities: frozenset[str]  # empty: all
    syntax: str  # of frames that are stored uncompressed; empty: none
    preview: bool


def parse_policy(text: str) -> tuple[RenditionRule, ...]:
    """Read the policy document. Raises InvalidRenditionPolicy."""
    try:
        rules = json.loads(text).get("rules", [])
        return tuple(_rule(rule) for rule in rules)
    except (ValueError, AttributeError, TypeError):
        raise InvalidRenditionPolicy('Write the renditions as {"rules": [{...}]}.') from None


def _rule(rule: dict[str, Any]) -> RenditionRule:
    unknown = set(rule) - {"modalities", "syntax", "preview"}
    if unknown:
        raise InvalidRenditionPolicy(f"A rule of renditions has no field {sorted(unknown)[0]!r}.")
    syntax = rule.get("syntax", "")
    if syntax not in ("", *SYNTAXES):
        raise InvalidRenditionPolicy(f"A rendition is made in one of: {', '.join(SYNTAXES)}.")
    modalities = rule.get("modalities", [])
    if not isinstance(modalities, list) or not all(isinstance(code, str) for code in modalities):
        raise InvalidRenditionPolicy("The modalities of a rule are a list of codes.")
    return RenditionRule(frozenset(modalities), syntax, bool(rule.get("preview", True)))


RENDITIONS = DocumentKind(
    "renditions",
    "Which modalities get lossless web renditions and previews when a study is at rest.",
    parse_policy,
    json.dumps({"rules": [{"modalities": [], "syntax": HTJ2K_LOSSLESS, "preview": True}]}),
)


def rule_for(rules: tuple[RenditionRule, ...], modality: str) -> RenditionRule | None:
    """The rule that holds for a modality, or None."""
    return next((rule for rule in rules if not rule.modalities or modality in rule.modalities), None)


def follow_for_renditions(archive: Archive, session: Session, change: Change) -> None:
    """A study came to rest: queue the making of its renditions, after what readers wait for."""
    enqueue(
        session, archive.clock, make_renditions, change.subject,
        delay_s=archive.settings.renditions_after_s, key=f"renditions {change.subject}",
    )  # fmt: skip


def forget_renditions(session: Session, study_id: int) -> None:
    """Let go of a study's renditions; the sweeper removes their bytes."""
    of_study = select(Instance.id).where(Instance.study_id == study_id)
    session.execute(delete(Rendition).where(Rendition.instance_id.in_(of_study)))


@job(queue="renditions", retries=3)
def make_renditions(archive: Archive, study_instance_uid: str) -> None:
    """Make what the policy wants and is not there yet, series by series. Safe to run twice."""
    with archive.database.snapshot() as session:
        rules = parse_policy(current_document(session, RENDITIONS))
        all_series = session.execute(
            select(Series.series_instance_uid, Series.modality)
            .join(Study, Study.id == Series.study_id)
            .where(Study.study_instance_uid == study_instance_uid, Study.tier.not_like(f"{COLD}%"))
        ).all()
    for series_instance_uid, modality in all_series:
        rule = rule_for(rules, modality)
        if rule is not None:
            _make_for_series(archive, rule, study_instance_uid, series_instance_uid)


def _make_for_series(archive: Archive, rule: RenditionRule, study: str, series: str) -> None:
    caller = system("renditions")
    with archive.database.snapshot() as session:
        rows = session.execute(
            select(Rendition.instance_id, Rendition.form)
            .join(Instance, Instance.id == Rendition.instance_id)
            .join(Series, Series.id == Instance.series_id)
            .where(Series.series_instance_uid == series)
        )
        made = {(row.instance_id, row.form) for row in rows}
    wanted = [form for form in (rule.syntax, PREVIEW if rule.preview else "") if form]
    for form in wanted:
        found = (
            stored
            for stored in find_instances(archive, caller, study, series)
            if stored.number_of_frames and (stored.id, form) not in made
        )
        _make_form(archive, form, found)


def _make_form(archive: Archive, form: str, instances: Iterator[StoredInstance]) -> None:
    """One blob with one form of many instances, and a row for each."""
    writer = None
    rows: list[dict[str, Any]] = []
    at = 0
    try:
        for stored in instances:
            places: list[list[tuple[int, int]]] = []
            for data in patiently(_frames_in(archive, stored, form)):
                writer = writer or archive.blobs.writer()
                writer.write(data)
                places.append([(at, len(data))])
                at += len(data)
            if places:
                size = sum(place[0][1] for place in places)
                packed = FrameIndex.encapsulated(places).packed
                rows.append({"instance_id": stored.id, "form": form, "frames": packed, "size_bytes": size})
        if writer is None:
            return
        sealed = writer.finish()
        writer.commit()
    except BaseException:
        if writer is not None:
            writer.discard()
        raise
    common = {"blob_key": sealed.key, "seal": sealed.seal.pack(), "made_at": archive.clock.now()}
    with archive.database.transaction() as session:
        alive = set(
            session.scalars(select(Instance.id).where(Instance.id.in_([row["instance_id"] for row in rows])))
        )
        for row in rows:
            session.execute(
                delete(Rendition).where(Rendition.instance_id == row["instance_id"], Rendition.form == form)
            )
            if row["instance_id"] in alive:
                session.execute(insert(Rendition).values(**row, **common))


def _frames_in(archive: Archive, stored: StoredInstance, form: str) -> Iterator[bytes]:
    """The frames of an instance in a form; none when it has no use for it or cannot have it."""
    try:
        if form == PREVIEW:
            yield _preview(archive, stored)
            return
        if stored.transfer_syntax_uid not in UNCOMPRESSED:
            return  # compressed ones are sent as they are
        pixel = image_pixel_of(parse_marked(instance_document(archive, stored)))
        if not can_encode(pixel, form):
            return
        first = frame_in(archive, stored, 1, form, pixel)
    except CloudfilmError:
        return  # an object that does not decode is served as it is
    yield first
    for number in range(2, stored.number_of_frames + 1):
        yield frame_in(archive, stored, number, form, pixel)


def _preview(archive: Archive, stored: StoredInstance) -> bytes:
    attributes = parse_marked(instance_document(archive, stored))
    number = representative_frame(attributes, stored.number_of_frames)
    return encode_picture([draw_stored(archive, stored, number, PREVIEW_RENDERING)], PREVIEW_RENDERING)


@dataclass(frozen=True, slots=True)
class StoredRendition:
    """Where a rendition is."""

    blob_key: str
    seal: Seal
    frames: bytes


_RENDITION = select(Rendition.blob_key, Rendition.seal, Rendition.frames).where(
    Rendition.instance_id == bindparam("instance"), Rendition.form == bindparam("form")
)


def find_rendition(archive: Archive, stored: StoredInstance, form: str) -> StoredRendition | None:
    """A form of an instance that the caller has found, if it was made."""
    row = archive.database.row(_RENDITION, {"instance": stored.id, "form": form})
    return None if row is None else StoredRendition(row[0], Seal.unpack(row[1]), row[2])


def rendition_frame(archive: Archive, rendition: StoredRendition, number: int) -> list[bytes]:
    """One frame (from 1) of a rendition, in the pieces that it is read in. Raises NoSuchFrame."""
    ((offset, length),) = locate_frame(rendition.frames, number).ranges
    return list(archive.blobs.stream(rendition.blob_key, rendition.seal, offset, length))


def preview_of(archive: Archive, stored: StoredInstance) -> bytes | None:
    """The preview of an instance, if it was made."""
    rendition = find_rendition(archive, stored, PREVIEW)
    return None if rendition is None else b"".join(rendition_frame(archive, rendition, 1))


def previews_of(archive: Archive, instances: Sequence[StoredInstance]) -> dict[int, bytes]:
    """The previews of some instances, by their row, as far as they were made."""
    statement = select(Rendition.instance_id, Rendition.blob_key, Rendition.seal, Rendition.frames).where(
        Rendition.instance_id.in_([stored.id for stored in instances]), Rendition.form == PREVIEW
    )
    with archive.database.snapshot() as session:
        rows = session.execute(statement).all()
    found = {}
    for row in rows:
        rendition = StoredRendition(row.blob_key, Seal.unpack(row.seal), row.frames)
        try:
            found[row.instance_id] = b"".join(rendition_frame(archive, rendition, 1))
        except (BlobNotFound, DamagedBlob):
            log.warning("a preview is lost; it is drawn anew")
    return found


def is_preview(rendering: Rendering) -> bool:
    """Whether a rendering is exactly what previews are."""
    return replace(rendering, media_type=JPEG, enlarge=False) == PREVIEW_RENDERING and (
        rendering.media_type == JPEG
    )
