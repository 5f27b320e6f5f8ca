"""Examinations as pages for people show them: what, when, where, and the images in their order.

Drawn from the study's tables within the caller's reach, in three queries whatever the number of images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from access.audit import note_once
from access.caller import READ_IMAGES, SEARCH_IMAGES, Caller
from access.model import Institution
from archive.documents import parse_marked
from archive.model import Instance, Series, Study
from archive.reach import within
from archive.retrieve import NotFound
from archive.room import Archive
from archive.search import begins

MOST_EXAMS = 200
NOT_SHOWN_FIRST = frozenset({"SR", "PR", "KO", "DOC", "REG", "SEG", "RTSTRUCT"})


@dataclass(frozen=True, slots=True)
class ImageShown:
    """One image object of a series."""

    sop_instance_uid: str
    number: int | None
    frames: int


@dataclass(frozen=True, slots=True)
class SeriesShown:
    """One series with its images."""

    series_instance_uid: str
    number: int | None
    description: str
    modality: str
    body_part: str
    images: tuple[ImageShown, ...]

    @property
    def middle(self) -> "ImageAt":
        """The image that stands for the series."""
        return ImageAt(self, self.images[len(self.images) // 2])

    @property
    def number_of_frames(self) -> int:
        """How many pictures a viewer leafs through."""
        return sum(each.frames for each in self.images)


@dataclass(frozen=True, slots=True)
class ImageAt:
    """An image where it stands: of several frames, the middle one."""

    series: SeriesShown
    image: ImageShown

    @property
    def frame(self) -> int:
        """Of its frames, from 1."""
        return (self.image.frames + 1) // 2

    @property
    def path(self) -> str:
        """Series, instance and frame, as addresses name them."""
        return f"{self.series.series_instance_uid}/{self.image.sop_instance_uid}/{self.frame}"

    @property
    def place(self) -> int:
        """Where a viewer of its series finds it, from 1."""
        before = self.series.images[: self.series.images.index(self.image)]
        return sum(each.frames for each in before) + self.frame


@dataclass(frozen=True, slots=True)
class Exam:
    """One examination: a study."""

    study_instance_uid: str
    logical_id: str
    patient: str  # logical id
    patient_name: str
    patient_sex: str
    birth_date: date | None
    day: date | None
    time: str  # HH:MM
    description: str
    modalities: tuple[str, ...]
    institution: str
    institution_name: str
    accession_number: str
    number_of_series: int
    number_of_instances: int
    is_at_rest: bool
    series: tuple[SeriesShown, ...] = ()

    @property
    def first(self) -> ImageAt | None:
        """The image to open with: of the series with most images that is no report or annotation."""
        shown = [each for each in self.series if each.modality not in NOT_SHOWN_FIRST and each.images]
        series = max(shown, key=lambda each: len(each.images), default=None)
        return series.middle if series else None

    def find(self, sop_instance_uid: str) -> ImageAt | None:
        """An image of this examination; None when it is not one of its."""
        return next(
            (
                ImageAt(series, image)
                for series in self.series
                for image in series.images
                if image.sop_instance_uid == sop_instance_uid
            ),
            None,
        )

    @property
    def age(self) -> int | None:
        """Full years at the examination."""
        if self.birth_date is None or self.day is None:
            return None
        early = (self.day.month, self.day.day) < (self.birth_date.month, self.birth_date.day)
        return self.day.year - self.birth_date.year - early


def list_exams(archive: Archive, caller: Caller, find: str = "", most: int = MOST_EXAMS) -> tuple[Exam, ...]:
    """The newest examinations that the caller may know of, without their series.

    find: how a patient's name or pinyin, number or accession number begins. Raises Forbidden.
    """
    caller.require(SEARCH_IMAGES)
    statement = within(select(Study), caller.reach_for("s"))
    wanted = find.strip().casefold()
    if wanted:
        names_begin = (
            begins(column, wanted)
            for column in (Study.name_ideographic, Study.name_alphabetic, Study.name_pinyin)
        )
        numbers_begin = (
            column.startswith(find.strip(), autoescape=True)
            for column in (Study.patient_id, Study.accession_number)
        )
        statement = statement.where(or_(*names_begin, *numbers_begin))
    statement = statement.order_by(
        Study.study_date.desc().nulls_last(), Study.study_time.desc(), Study.id.desc()
    )
    with archive.database.snapshot() as session:
        studies = session.scalars(statement.limit(most)).all()
        names = _names(session, studies)
    note_once(archive.database, archive.recently, archive.clock, caller, "search ImagingStudy", "")
    return tuple(_exam(study, names, ()) for study in studies)


def read_exam(archive: Archive, caller: Caller, study_instance_uid: str) -> Exam:
    """One examination with its series and images. Raises NotFound or Forbidden."""
    caller.require(READ_IMAGES)
    statement = within(
        select(Study).where(Study.study_instance_uid == study_instance_uid), caller.reach_for("r")
    )
    with archive.database.snapshot() as session:
        study = session.scalar(statement)
        if study is None:
            raise NotFound("The study")
        exam = _exam(study, _names(session, [study]), _series(session, study.id))
    note_once(
        archive.database, archive.recently, archive.clock, caller, "read ImagingStudy", study_instance_uid,
        study.patient_logical_id,
    )  # fmt: skip
    return exam


def _names(session: Session, studies: Sequence[Study]) -> dict[str, str]:
    codes = {study.institution for study in studies}
    rows = session.execute(select(Institution.code, Institution.name).where(Institution.code.in_(codes)))
    return {code: name for code, name in rows if name}


def _series(session: Session, study_id: int) -> tuple[SeriesShown, ...]:
    images: dict[int, list[ImageShown]] = {}
    for series_id, uid, number, frames in session.execute(
        select(
            Instance.series_id, Instance.sop_instance_uid, Instance.instance_number, Instance.number_of_frames
        )
        .where(Instance.study_id == study_id, Instance.number_of_frames > 0)
        .order_by(Instance.instance_number.nulls_last(), Instance.id)
    ):
        images.setdefault(series_id, []).append(ImageShown(uid, number, frames))
    rows = session.scalars(
        select(Series)
        .where(Series.study_id == study_id)
        .order_by(Series.series_number.nulls_last(), Series.id)
    )
    return tuple(
        SeriesShown(
            row.series_instance_uid,
            row.series_number,
            _text(parse_marked(row.attributes), "0008103E"),
            row.modality,
            row.body_part_examined,
            tuple(images.get(row.id, ())),
        )
        for row in rows
    )


def _text(attributes: dict[str, Any], tag: str) -> str:
    """The first value for people; of a name, the Chinese writing where there is one."""
    value = next(iter(attributes.get(tag, {}).get("Value", ())), "")
    if not isinstance(value, dict):
        return str(value)
    name = str(value.get("Ideographic") or value.get("Alphabetic") or "")
    is_han = any("\u4e00" <= each <= "\u9fff" for each in name)
    return name.replace("^", "" if is_han else " ").strip()


def _exam(study: Study, names: dict[str, str], series: tuple[SeriesShown, ...]) -> Exam:
    attributes = parse_marked(study.attributes)
    time = study.study_time.replace(":", "")
    return Exam(
        study.study_instance_uid,
        study.logical_id,
        study.patient_logical_id,
        _text(attributes, "00100010"),
        study.patient_sex,
        study.patient_birth_date,
        study.study_date,
        f"{time[:2]}:{time[2:4]}" if len(time) >= 4 else "",
        _text(attributes, "00081030"),
        tuple(str(each) for each in attributes.get("00080061", {}).get("Value", ())),
        study.institution,
        names.get(study.institution, study.institution),
        study.accession_number,
        study.number_of_series,
        study.number_of_instances,
        study.rested_revision == study.revision,
        series,
    )
