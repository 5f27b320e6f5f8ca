"""What patients permit and deny: FHIR Consent as the decision reads it.

A Consent has a base provision and exceptions to it (FHIR R4 Consent.provision). Who is not named in a
provision is meant too, except that a permit opens something new only to those whom it names. A withdrawn
Consent, or one that has ended, says nothing. A permit that is narrowed in a way that is not read here opens
nothing, and a denial denies without that narrowing.

Security labels: a confidentiality is a high water mark (R4 Consent.provision.securityLabel), so a permit of R
opens what is R or lower, and what has no label counts as N; a denial of R closes what is R or higher. Other
labels are meant one by one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from access.caller import Clause, Principal

PERMIT, DENY = "permit", "deny"

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
LEVELS = tuple(f"{CONFIDENTIALITY}|{code}" for code in "ULMNRV")  # the lowest first
NORMAL = LEVELS.index(f"{CONFIDENTIALITY}|N")
NOT_READ = frozenset({"code", "dataPeriod", "provision"})  # what else narrows a provision


@dataclass(frozen=True, slots=True)
class Provision:
    """One statement: for whom, what for, when, and about which data (an empty set: all)."""

    effect: str  # permit or deny
    actors: frozenset[str] = frozenset()  # references, role codes and account ids
    purposes: frozenset[str] = frozenset()
    starts: datetime | None = None
    ends: datetime | None = None
    types: frozenset[str] = frozenset()
    studies: frozenset[str] = frozenset()  # Study Instance UIDs
    labels: frozenset[str] = frozenset()  # security labels, `system|code` or `code`
    is_understood: bool = True  # False: it is narrowed in ways that are not read here

    @property
    def counts(self) -> bool:
        """Whether it is heard: what is not understood denies, and opens nothing."""
        return self.is_understood or self.effect == DENY

    @property
    def is_about_some(self) -> bool:
        """Whether it speaks of some of the data only."""
        return bool(self.types or self.studies or self.labels)

    def speaks_to(self, principal: Principal, purpose: str, at: datetime | None) -> bool:
        """Whether the provision is about this request."""
        names = {
            principal.id,
            principal.role,
            principal.fhir_user,
            principal.department,
            f"Organization/{principal.institution}",
        }
        return (
            (not self.actors or bool(self.actors & names))
            and (not self.purposes or purpose in self.purposes)
            and (at is None or self.starts is None or at >= self.starts)
            and (at is None or self.ends is None or at < self.ends)
        )


@dataclass(frozen=True, slots=True)
class Consent:
    """One patient's consent: the base provision and its exceptions."""

    patient: str  # logical id of the Patient document
    base: Provision
    exceptions: tuple[Provision, ...] = ()


def provisions_for(
    consent: Consent, principal: Principal, purpose: str, at: datetime | None
) -> tuple[Provision, ...]:
    """What the consent says to this principal; exceptions without data of their own replace the base."""
    if not consent.base.speaks_to(principal, purpose, at):
        return ()
    said = tuple(
        each for each in consent.exceptions if each.counts and each.speaks_to(principal, purpose, at)
    )
    if not consent.base.counts or not all(each.is_about_some for each in said):
        return said
    return (consent.base, *said)


def permitted_by(
    consents: Iterable[Consent], principal: Principal, purpose: str, at: datetime | None
) -> tuple[Clause, ...]:
    """What consents open to a principal whom they name."""
    return tuple(
        clause
        for consent in consents
        for provision in provisions_for(consent, principal, purpose, at)
        if provision.effect == PERMIT and provision.actors
        for clause in _permitted(consent.patient, provision)
    )


def _permitted(patient: str, provision: Provision) -> list[Clause]:
    """What of a patient's data a permit is about."""
    about = Clause(
        patients=frozenset({patient}),
        studies=provision.studies or None,
        resource_types=provision.types or None,
    )
    if not provision.labels:
        return [about]
    others, levels = _sorted_labels(provision)
    return [
        *([replace(about, labels=others)] if others else []),
        *([_up_to(max(levels), about)] if levels else []),
    ]


def _left_by(provision: Provision) -> Clause:
    """What a denial of some labels leaves."""
    others, levels = _sorted_labels(provision)
    left = _up_to(min(levels) - 1, Clause()) if levels else Clause()
    return replace(left, except_labels=others | (left.except_labels or frozenset()))


def _sorted_labels(provision: Provision) -> tuple[frozenset[str], list[int]]:
    """The labels that are meant one by one, and the levels of confidentiality."""
    return provision.labels - set(LEVELS), [LEVELS.index(each) for each in provision.labels & set(LEVELS)]


def _up_to(level: int, about: Clause) -> Clause:
    """What of some data is of this confidentiality or a lower one."""
    above = frozenset(LEVELS[level + 1 :])
    lower = None if level >= NORMAL else frozenset(LEVELS[: level + 1])
    return replace(about, labels=lower, except_labels=above or None)


def denied_by(
    consents: Iterable[Consent], principal: Principal, purpose: str, at: datetime | None
) -> tuple[frozenset[Clause], ...]:
    """The limits that consents set for a principal; whole patients together in one."""
    patients: set[str] = set()
    limits: list[frozenset[Clause]] = []
    for consent in consents:
        said = provisions_for(consent, principal, purpose, at)
        excused = [each for each in said if each.effect == PERMIT and each.is_about_some]
        for provision in said:
            if provision.effect != DENY:
                continue
            if not (provision.is_about_some or excused):
                patients.add(consent.patient)
                continue
            rest = {Clause(except_patients=frozenset({consent.patient}))}
            if provision.types:
                rest.add(Clause(except_types=provision.types))
            if provision.studies:
                rest.add(Clause(except_studies=provision.studies, resource_types=frozenset({"ImagingStudy"})))
            if provision.labels:
                rest.add(_left_by(provision))
            for each in excused:
                rest.update(_permitted(consent.patient, each))
            limits.append(frozenset(rest))
    if patients:
        limits.append(frozenset({Clause(except_patients=frozenset(patients))}))
    return tuple(limits)


def read_consent(document: Mapping[str, Any]) -> Consent | None:
    """A FHIR R4 Consent as a value; None when it is not in force or names no patient."""
    patient = str(document.get("patient", {}).get("reference", "")).rpartition("Patient/")[2]
    provision = document.get("provision")
    if document.get("status") != "active" or not patient or not isinstance(provision, Mapping):
        return None
    nested = provision.get("provision", ())
    base = _provision({name: value for name, value in provision.items() if name != "provision"}, PERMIT)
    opposite = DENY if base.effect == PERMIT else PERMIT
    return Consent(patient, base, tuple(_provision(each, opposite) for each in nested))


def _provision(fields: Mapping[str, Any], effect: str) -> Provision:
    actors = _references(fields.get("actor", ()))
    data = _references(fields.get("data", ()))
    period = fields.get("period", {})
    return Provision(
        effect=str(fields.get("type", effect)),
        actors=actors,
        purposes=frozenset(str(each.get("code", "")) for each in fields.get("purpose", ())),
        starts=_moment(period.get("start"), ends=False),
        ends=_moment(period.get("end"), ends=True),
        types=frozenset(str(each.get("code", "")) for each in fields.get("class", ())),
        studies=frozenset(
            each.removeprefix("urn:oid:") for each in data if each.removeprefix("urn:oid:")[:1].isdigit()
        ),
        labels=frozenset(_label(each) for each in fields.get("securityLabel", ())),
        is_understood=not NOT_READ & set(fields),
    )


def _label(coding: Mapping[str, Any]) -> str:
    """A security label as `system|code`; without a system, the code of any."""
    system, code = str(coding.get("system", "")), str(coding.get("code", ""))
    return f"{system}|{code}" if system else code


def _references(parts: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """What actors or data name: literal references and business identifiers."""
    named: set[str] = set()
    for part in parts:
        reference = part.get("reference", {})
        named |= {str(reference.get("reference", "")), str(reference.get("identifier", {}).get("value", ""))}
    return frozenset(named - {""})


def _moment(text: Any, ends: bool) -> datetime | None:
    """A FHIR dateTime; a whole day, month or year counts to its end where it ends a period."""
    if not text:
        return None
    plain = str(text)
    if len(plain) > 10:
        moment = datetime.fromisoformat(plain)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    year, _, rest = plain.partition("-")
    month, _, day = rest.partition("-")
    first = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
    if not ends:
        return first
    if day:
        return first + timedelta(days=1)
    if month:
        return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return first.replace(year=first.year + 1)
