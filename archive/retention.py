"""How long studies have to be kept: by modality and institution, in years from the day of the examination.

A site document. What it names can still be taken out of every view, as a wrong object has to be, but its
bytes stay, sealed, and can be brought back until its time is over; nobody removes it as expired before.

《医疗机构病历管理规定》 29 (outpatients' records at least 15 years, inpatients' at least 30).
"""

import json
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, date, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.document_kind import DocumentKind, current_document
from archive.model import Series, Study
from kernel.errors import CloudfilmError, Kind

MOST_YEARS = 200


class InvalidRetention(CloudfilmError):
    """A retention document that cannot be read."""

    kind = Kind.UNPROCESSABLE


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """For how many years studies are kept; empty sets fit every study."""

    keep_years: int
    modalities: tuple[str, ...] = ()
    institutions: tuple[str, ...] = ()

    def fits(self, institution: str, modalities: set[str]) -> bool:
        """Whether a study is one of these."""
        return (not self.institutions or institution in self.institutions) and (
            not self.modalities or bool(modalities & set(self.modalities))
        )


def parse_retention(text: str) -> tuple[RetentionRule, ...]:
    """Read `{"rules": [{"keep_years": 15, "modalities": ["CT"], "institutions": ["MAIN"]}]}`.

    Raises InvalidRetention.
    """
    try:
        return tuple(_rule(rule) for rule in json.loads(text).get("rules", []))
    except (ValueError, TypeError, KeyError, AttributeError) as failure:
        raise InvalidRetention(f"The retention policy cannot be read: {failure}") from None


def _rule(rule: dict[str, Any]) -> RetentionRule:
    unknown = rule.keys() - {"keep_years", "modalities", "institutions"}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} is not known")
    years = rule["keep_years"]
    if not isinstance(years, int) or isinstance(years, bool) or not 1 <= years <= MOST_YEARS:
        raise ValueError(f"keep_years is a whole number from 1 to {MOST_YEARS}")
    lists = [rule.get(name, []) for name in ("modalities", "institutions")]
    if not all(isinstance(each, list) and all(isinstance(value, str) for value in each) for each in lists):
        raise ValueError("modalities and institutions are lists of texts")
    return RetentionRule(years, *map(tuple, lists))


RETENTION = DocumentKind(
    "retention",
    "How many years studies have to be kept, by modality and institution.",
    parse_retention,
    '{"rules": []}',
)


def kept_until(session: Session, study: Study) -> datetime | None:
    """Until when a study has to be kept, by the longest rule that fits it; None: no rule does."""
    rules = parse_retention(current_document(session, RETENTION))
    if not rules:
        return None
    modalities = set(session.scalars(select(Series.modality).where(Series.study_id == study.id)))
    years = [rule.keep_years for rule in rules if rule.fits(study.institution, modalities)]
    return _years_after(study.study_date or study.created_at.date(), max(years)) if years else None


def _years_after(day: date, years: int) -> datetime:
    if day.year + years > MAXYEAR:  # a header may say any day
        return datetime.max.replace(tzinfo=UTC)
    leap = day.month == 2 and day.day == 29  # the day that most years lack
    first = date(day.year + years, 3, 1) if leap else day.replace(year=day.year + years)
    return datetime(first.year, first.month, first.day, tzinfo=UTC)
