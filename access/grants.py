"""Grants: a share is a grant of some studies and reports to whoever meets its terms, until it ends.

A grant says what (studies, reports, or an accession number whose images are still to come), to whom (the
patient and its family, one phone, one account, one WeChat user, who knows a passcode, or the bearer of the
code), until when, how often, to look at or also to take away, by whom and why. Its secret of 256 bits is
shown once, in the fragment of an address that no server sees; a keyed hash is kept. Who was let in is a
visitor: a Caller like any other, at the same doors, whose reach is the grant's studies and reports until the
grant ends or is revoked, which the next request feels.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, bindparam, func, insert, or_, select, update
from sqlalchemy.orm import Session

from access.audit import note
from access.caller import Action, Caller, Clause, Door, Permissions, Principal, PrincipalKind
from access.document_kind import current_document
from access.grant_model import ShareGrant, ShareItem, ShareVisit
from access.model import AuditEntry, ConsentVersion, SiteDocument
from access.phones import InvalidPhone, masked, normal_phone, phone_index
from access.policy import decide
from access.roles import PERSONAL, Role, Span
from access.rules import RULES
from access.share_policy import SHARING, SharePolicy, Sharing, parse_sharing
from access.tokens import Access, digest_of, site_of
from kernel.changes import record_change
from kernel.clock import new_id, new_secret
from kernel.errors import CloudfilmError, Kind, Unauthenticated

LINK, PAPER, HEALTH_LINK = "link", "paper", "health-link"
PATIENT, PHONE, PASSCODE, BEARER = "patient", "phone", "passcode", "bearer"
ACCOUNT, WECHAT = "account", "wechat"

MAKE_SHARE, SEE_SHARES, END_SHARE = Action("Share", "c"), Action("Share", "s"), Action("Share", "d")
LEAST_PASSCODE = 6  # characters
MOST_SHOWN = 200
USED_EVERY = timedelta(minutes=1)

VIEW = Permissions.of(ImagingStudy="rs")
VIEW_REPORT = Permissions.of(DiagnosticReport="rs", Observation="rs")
TAKE_AWAY = Action("Download", "r")
DOWNLOAD = Permissions.of(Download="r")
SHARE_ON = Permissions.of(Share="crds")
DOCUMENTS = {"report": "DiagnosticReport", "result": "Observation"}  # kind of an item: type of the document
OWNERS = frozenset({"patient", "family"})  # relations of a visitor who may share on and see the log


class NoSuchShare(CloudfilmError):
    """A share that is not there, or that is somebody else's."""

    kind = Kind.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("The share was not found.")


class InvalidTerms(CloudfilmError):
    """Terms that a share cannot have here; says which."""

    kind = Kind.UNPROCESSABLE


@dataclass(frozen=True, slots=True)
class Named:
    """What a share names: whose it is, and studies, reports and their results (Observations), each as
    (identifier, logical id of patient)."""

    institution: str
    patient: str = ""
    accession_number: str = ""
    studies: tuple[tuple[str, str], ...] = ()
    reports: tuple[tuple[str, str], ...] = ()
    results: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """To whom, until when, how often and what for; what is None is as the institution's policy has it."""

    binding: str = PATIENT
    phone: str = ""  # of binding `phone`
    passcode: str = ""  # of binding `passcode`
    account: str = ""  # login name or phone of binding `account`; whether there is one is not asked here
    days: int | None = None
    most_uses: int | None = None
    download: bool = False
    with_report: bool = True
    recipient: str = ""
    reason: str = ""
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A new grant; its secret is not kept anywhere."""

    id: str
    secret: str
    expires_at: datetime


def sharing_of(session: Session) -> Sharing:
    """The site's policy of sharing, as it stands now."""
    return parse_sharing(current_document(session, SHARING))


def policy_of(access: Access, institution: str) -> SharePolicy:
    """What an institution allows."""
    with access.database.snapshot() as session:
        return sharing_of(session).of(institution)


def make_grant(
    access: Access, session: Session, caller: Caller, kind: str, named: Named, terms: Terms
) -> Made:
    """Make a grant within the caller's transaction.

    named: what the caller may reach, as the room that knows studies has checked. Raises Forbidden,
    InvalidTerms or InvalidPhone.
    """
    caller.require(MAKE_SHARE)
    policy = sharing_of(session).of(named.institution)
    now = access.clock.now()
    expires_at = now + timedelta(days=_days(kind, terms, policy))
    phone = normal_phone(terms.phone) if terms.binding == PHONE else ""
    _check(terms, policy)
    grant_id, secret = new_id(), new_secret()
    session.execute(
        insert(ShareGrant).values(
            id=grant_id,
            digest=digest_of(access, secret),
            kind=kind,
            institution=named.institution,
            accession_number=named.accession_number,
            patient=named.patient,
            binding=terms.binding,
            phone=access.keys.seal_bytes(phone.encode(), f"share {grant_id}") if phone else b"",
            phone_index=_whose(access, terms, phone),
            passcode=_passcode(access, grant_id, terms.passcode),
            recipient=terms.recipient[:100],
            reason=terms.reason[:200],
            may_download=terms.download,
            with_report=terms.with_report,
            not_before=terms.not_before,
            expires_at=expires_at,
            most_uses=policy.most_uses if terms.most_uses is None else terms.most_uses,
            made_by_kind=caller.principal.kind.value,
            made_by=caller.principal.id,
            made_by_name=caller.principal.name[:200],
            created_at=now,
        )
    )
    add_items(session, grant_id, named)
    record_change(session, access.clock, "share-made", grant_id, patient=named.patient)
    detail = f"{kind} for {terms.binding} until {expires_at.date().isoformat()}"
    note(
        session, access.clock, caller, "create Share", grant_id,
        patient_id=named.patient, detail=f"{detail} {terms.reason[:200]}".strip(),
    )  # fmt: skip
    return Made(grant_id, secret, expires_at)


def _whose(access: Access, terms: Terms, phone: str) -> str:
    """The index of the one phone or account that may open it; of WeChat's binding, who opens it first."""
    if terms.binding == ACCOUNT:
        return account_index(access, terms.account)
    return phone_index(access.keys, phone) if phone else ""


def account_index(access: Access, text: str) -> str:
    """The keyed hash of a login name, or of a phone that leads to an account."""
    try:
        name = normal_phone(text)
    except InvalidPhone:
        name = text.strip().casefold()
    return access.keys.blind_index(f"account {name}")


def _days(kind: str, terms: Terms, policy: SharePolicy) -> int:
    usual, most = (policy.paper_days,) * 2 if kind == PAPER else (policy.link_days, policy.most_days)
    days = usual if terms.days is None else terms.days
    if not 1 <= days <= most:
        raise InvalidTerms(f"A share lives 1 to {most} days.")
    return days


def _check(terms: Terms, policy: SharePolicy) -> None:
    if terms.binding not in policy.bindings:
        raise InvalidTerms(f"A share is bound by one of: {', '.join(policy.bindings)}.")
    if terms.download and not policy.download:
        raise InvalidTerms("This institution's shares are for looking at only.")
    if terms.binding == PASSCODE and len(terms.passcode) < LEAST_PASSCODE:
        raise InvalidTerms(f"A passcode has at least {LEAST_PASSCODE} characters.")
    if terms.binding == ACCOUNT and not terms.account.strip():
        raise InvalidTerms("Say whose account may open it: a login name, or the phone of an account.")
    if terms.most_uses is not None and not 0 <= terms.most_uses <= 10000:
        raise InvalidTerms("Say how often it opens: 1 to 10000, or 0 for any number of times.")


def _passcode(access: Access, grant_id: str, passcode: str) -> bytes:
    return digest_of(access, f"passcode {grant_id} {passcode.strip()}") if passcode else b""


def is_passcode(access: Access, grant: ShareGrant, passcode: str) -> bool:
    """Whether it is the grant's passcode, compared as keyed hashes."""
    return bool(grant.passcode) and grant.passcode == _passcode(access, grant.id, passcode)


def add_items(session: Session, grant_id: str, named: Named) -> bool:
    """Let a grant open more, within the caller's transaction; what it names already is left alone.

    Returns whether there was more.
    """
    known = {
        (row.kind, row.identifier)
        for row in session.scalars(select(ShareItem).where(ShareItem.grant_id == grant_id))
    }
    wanted = [
        (kind, *each)
        for kind, things in (("study", named.studies), ("report", named.reports), ("result", named.results))
        for each in things
    ]
    rows = [
        {"grant_id": grant_id, "kind": kind, "identifier": identifier, "patient": patient}
        for kind, identifier, patient in wanted
        if (kind, identifier) not in known
    ]
    if rows:
        session.execute(insert(ShareItem), rows)
    return bool(rows)


def readdress_grants(session: Session, before: str, after: str) -> list[str]:
    """Grants of one Patient are another's from now on, as when records are merged: what they name goes on
    being reached. Returns what was changed, each as `readdress_grant` takes it."""
    changed = list(session.scalars(select(ShareGrant.id).where(ShareGrant.patient == before)))
    for item in session.scalars(select(ShareItem).where(ShareItem.patient == before)):
        changed.append(f"{item.grant_id}/{item.kind}/{item.identifier}")
    for name in changed:
        readdress_grant(session, name, before, after)
    return changed


def readdress_grant(session: Session, name: str, before: str, after: str) -> None:
    """One grant (`id`), or one thing that a grant names (`id/kind/identifier`), if it is still that
    Patient's."""
    grant_id, _, item = name.partition("/")
    if not item:
        session.execute(
            update(ShareGrant)
            .where(ShareGrant.id == grant_id, ShareGrant.patient == before)
            .values(patient=after)
        )
        return
    kind, _, identifier = item.partition("/")
    session.execute(
        update(ShareItem)
        .where(
            ShareItem.grant_id == grant_id,
            ShareItem.kind == kind,
            ShareItem.identifier == identifier,
            ShareItem.patient == before,
        )
        .values(patient=after)
    )


def own_patients(caller: Caller) -> frozenset[str]:
    """The patients whose own caller this is: a patient's account, or a visitor who is patient or family."""
    is_own = caller.principal.role in PERSONAL or (
        caller.principal.kind is PrincipalKind.VISITOR and caller.may(MAKE_SHARE)
    )
    if not is_own or not caller.reach.limits:
        return frozenset()
    return frozenset().union(*(clause.patients or frozenset() for clause in caller.reach.limits[0]))


def _ours(caller: Caller) -> Any:
    """The grants that a caller may see and end: those it made, of its own patients, of its institution."""
    conditions = [ShareGrant.made_by == caller.principal.id]
    own = own_patients(caller)
    if own:
        conditions.append(ShareGrant.patient.in_(own))
    elif caller.reach.is_everywhere:
        return ShareGrant.id != ""
    elif caller.principal.kind is PrincipalKind.ACCOUNT and caller.principal.institution:
        conditions.append(ShareGrant.institution == caller.principal.institution)
    return or_(*conditions)


@dataclass(frozen=True, slots=True)
class GrantSeen:
    """A grant as its list shows it."""

    grant: ShareGrant
    studies: tuple[str, ...]
    is_alive: bool


def list_grants(
    access: Access, caller: Caller, *, study: str = "", accession_number: str = ""
) -> tuple[GrantSeen, ...]:
    """The grants that the caller may see, the newest first; of one study or accession number if named.

    Raises Forbidden.
    """
    caller.require(SEE_SHARES)
    statement = select(ShareGrant).where(_ours(caller)).order_by(ShareGrant.created_at.desc(), ShareGrant.id)
    if study:
        named = select(ShareItem.grant_id).where(ShareItem.kind == "study", ShareItem.identifier == study)
        statement = statement.where(ShareGrant.id.in_(named))
    if accession_number:
        statement = statement.where(ShareGrant.accession_number == accession_number)
    now = access.clock.now()
    with access.database.snapshot() as session:
        grants = session.scalars(statement.limit(MOST_SHOWN)).all()
        items = session.execute(
            select(ShareItem.grant_id, ShareItem.identifier).where(
                ShareItem.grant_id.in_([grant.id for grant in grants]), ShareItem.kind == "study"
            )
        ).all()
    return tuple(
        GrantSeen(grant, tuple(uid for grant_id, uid in items if grant_id == grant.id), is_alive(grant, now))
        for grant in grants
    )


def is_alive(grant: ShareGrant, now: datetime) -> bool:
    """Whether it can still be opened."""
    used_up = grant.most_uses > 0 and grant.uses >= grant.most_uses
    return grant.revoked_at is None and grant.expires_at > now and not used_up


def revoke_grant(access: Access, caller: Caller, grant_id: str) -> None:
    """End a grant and every visit by it, for images as well, at the next request.

    Ending one that has ended changes nothing. Raises Forbidden or NoSuchShare.
    """
    caller.require(END_SHARE)
    with access.database.transaction() as session:
        grant = session.scalar(select(ShareGrant).where(ShareGrant.id == grant_id, _ours(caller)))
        if grant is None:
            raise NoSuchShare
        ended = session.execute(
            update(ShareGrant)
            .where(ShareGrant.id == grant_id, ShareGrant.revoked_at.is_(None))
            .values(revoked_at=access.clock.now(), revoked_by=caller.principal.id)
        )
        if ended.rowcount:  # type: ignore[attr-defined]
            record_change(session, access.clock, "share-revoked", grant_id, patient=grant.patient)
            note(session, access.clock, caller, "delete Share", grant_id, patient_id=grant.patient)


def revoke_grants(access: Access, caller: Caller) -> int:
    """End all that `list_grants` shows as alive; returns how many."""
    alive = [seen.grant.id for seen in list_grants(access, caller) if seen.is_alive]
    for grant_id in alive:
        revoke_grant(access, caller, grant_id)
    return len(alive)


def accesses_of(access: Access, caller: Caller, grant_id: str) -> tuple[AuditEntry, ...]:
    """Who did what by a grant, the newest first. Raises Forbidden or NoSuchShare."""
    caller.require(SEE_SHARES)
    with access.database.transaction() as session:
        if session.scalar(select(ShareGrant.id).where(ShareGrant.id == grant_id, _ours(caller))) is None:
            raise NoSuchShare
        rows = session.scalars(
            select(AuditEntry)
            .where(or_(AuditEntry.grant == grant_id, AuditEntry.subject == grant_id))
            .order_by(AuditEntry.seq.desc())
            .limit(MOST_SHOWN)
        ).all()
        session.expunge_all()
        note(session, access.clock, caller, "read access log of Share", grant_id)
    return tuple(rows)


def living_grant(session: Session, access: Access, secret: str) -> ShareGrant | None:
    """The grant of a secret, if it can be opened now."""
    grant = session.scalar(select(ShareGrant).where(ShareGrant.digest == digest_of(access, secret)))
    now = access.clock.now()
    if grant is None or not is_alive(grant, now) or (grant.not_before or now) > now:
        return None
    return grant


def keep_details(access: Access, grant_id: str, details: str) -> None:
    """Keep what a health link needs of itself, sealed: the key of its files."""
    sealed = access.keys.seal_bytes(details.encode(), f"share details {grant_id}")
    with access.database.transaction() as session:
        session.execute(update(ShareGrant).where(ShareGrant.id == grant_id).values(details=sealed))


def details_of(access: Access, grant: ShareGrant) -> str:
    """What `keep_details` kept."""
    return access.keys.open_bytes(grant.details, f"share details {grant.id}").decode()


def begin_visit(
    access: Access,
    session: Session,
    grant_id: str,
    relation: str,
    phone: str,
    address: str,
    visitor: str = "",
) -> str:
    """Let a visitor in, within the caller's transaction; returns the secret for its cookie.

    visitor: what a program calls itself; a person is known by the masked phone.

    Counts one use, however many ask at once. Raises Unauthenticated when the grant ended meanwhile.
    """
    now = access.clock.now()
    counted = session.execute(
        update(ShareGrant)
        .where(
            ShareGrant.id == grant_id,
            ShareGrant.revoked_at.is_(None),
            ShareGrant.expires_at > now,
            or_(ShareGrant.most_uses == 0, ShareGrant.uses < ShareGrant.most_uses),
        )
        .values(uses=ShareGrant.uses + 1, first_used_at=func.coalesce(ShareGrant.first_used_at, now))
        .returning(ShareGrant.uses)
    ).scalar()
    grant = session.get(ShareGrant, grant_id, populate_existing=True)
    if counted is None or grant is None:
        raise Unauthenticated
    visit_id, secret = new_id(), new_secret()
    visitor = masked(phone) if phone else visitor
    hours = sharing_of(session).of(grant.institution).visit_hours
    session.execute(
        insert(ShareVisit).values(
            id=visit_id,
            digest=digest_of(access, secret),
            grant_id=grant_id,
            relation=relation,
            visitor=visitor,
            visitor_index=visitor,
            phone=access.keys.seal_bytes(phone.encode(), f"visit {visit_id}") if phone else b"",
            address=address,
            created_at=now,
            used_at=now,
            expires_at=min(grant.expires_at, now + timedelta(hours=hours)),
        )
    )
    record_change(
        session, access.clock, "share-opened", grant_id,
        patient=grant.patient, visit=visit_id, relation=relation, address=address, first=counted == 1,
    )  # fmt: skip
    principal = Principal(PrincipalKind.VISITOR, visit_id, visitor, grant.institution, role=relation)
    caller = Caller(principal, Door.SHARE, Permissions(), address=address, grant=grant_id, purpose="PATRQT")
    note(
        session, access.clock, caller, "open Share", grant_id,
        patient_id=grant.patient, detail=f"{visitor} {relation}".strip(),
    )  # fmt: skip
    return secret


@dataclass(frozen=True, slots=True)
class Visit:
    """A visitor at this request: the caller, and what its pages need to know of the grant."""

    caller: Caller
    grant_id: str
    visitor: str  # masked phone, for watermarks
    relation: str
    opened_at: datetime
    institution: str
    expires_at: datetime
    may_download: bool
    with_report: bool
    accession_number: str
    studies: tuple[str, ...]
    reports: tuple[str, ...]


_VISIT: Select[*tuple[Any, ...]] = (
    select(
        ShareVisit.used_at, ShareVisit.expires_at, ShareVisit.revoked_at, ShareGrant.revoked_at,
        ShareGrant.expires_at,
        ShareVisit.id, ShareVisit.relation, ShareVisit.visitor, ShareGrant.id, ShareGrant.institution,
        ShareGrant.may_download, ShareGrant.with_report, ShareGrant.accession_number, ShareVisit.created_at,
        select(func.max(SiteDocument.version)).where(SiteDocument.name == RULES.name).scalar_subquery(),
        select(func.max(ConsentVersion.id)).scalar_subquery(),
    )
    .join(ShareGrant, ShareGrant.id == ShareVisit.grant_id)
    .where(ShareVisit.digest == bindparam("digest"))
)  # fmt: skip
_ITEMS = select(ShareItem.kind, ShareItem.identifier, ShareItem.patient).where(
    ShareItem.grant_id == bindparam("grant")
)


def visit_of(access: Access, secret: str, address: str) -> Visit:
    """Who holds a visit's secret. Raises Unauthenticated when visit or grant is unknown or has ended."""
    found = access.database.row(_VISIT, {"digest": digest_of(access, secret)})
    if found is None:
        raise Unauthenticated
    used_at, expires_at, ended_at, revoked_at, grant_expires_at, *facts = found
    now = access.clock.now()
    if ended_at or revoked_at or min(expires_at, grant_expires_at) <= now:
        raise Unauthenticated
    with access.database.snapshot() as session:
        items = tuple(tuple(row) for row in session.execute(_ITEMS, {"grant": facts[3]}))
    if used_at < now - USED_EVERY:
        with access.database.transaction() as session:
            session.execute(update(ShareVisit).where(ShareVisit.id == facts[0]).values(used_at=now))
    minute = now.replace(second=0, microsecond=0)
    visit: Visit = access.decisions.get(
        ("visit", *facts, items, expires_at, address, minute),
        lambda: _visit(access, tuple(facts), items, expires_at, address, minute),
    )
    return visit


def _visit(
    access: Access, facts: tuple[Any, ...], items: tuple[Any, ...], expires_at: datetime, address: str,
    at: datetime,
) -> Visit:  # fmt: skip
    (visit_id, relation, visitor, grant_id, institution, may_download, with_report, accession_number,
     opened_at, *revision) = facts  # fmt: skip
    permissions = VIEW
    if with_report:
        permissions = permissions.union(VIEW_REPORT)
    if may_download:
        permissions = permissions.union(DOWNLOAD)
    if relation in OWNERS:
        permissions = permissions.union(SHARE_ON)
    decision = decide(
        Principal(PrincipalKind.VISITOR, visit_id, visitor, institution, role="visitor"),
        Door.SHARE,
        granted=clauses_of(items, with_report),
        role=Role("visitor", permissions, Span.GRANTED),
        site=site_of(access, tuple(revision)),
        address=address,
        at=at,
        purpose="PATRQT",
        grant=grant_id,
    )
    studies, reports = (
        tuple(identifier for kind, identifier, _ in items if kind == wanted) for wanted in ("study", "report")
    )
    return Visit(
        decision.caller, grant_id, visitor, relation, opened_at, institution, expires_at, may_download,
        with_report, accession_number, studies, reports if with_report else (),
    )  # fmt: skip


def clauses_of(items: tuple[Any, ...], with_report: bool = True) -> tuple[Clause, ...]:
    """What a grant reaches: each patient's studies and reports, as long as they are that patient's.

    A study that turns out to be somebody else's is corrected, and with that leaves the grant's reach.
    """
    clauses = []
    for patient in sorted({item[2] for item in items}):
        studies = frozenset(name for kind, name, whose in items if kind == "study" and whose == patient)
        reports = frozenset(
            f"{DOCUMENTS[kind]}/{name}"
            for kind, name, whose in items
            if kind in DOCUMENTS and whose == patient
        )
        if studies:
            clauses.append(Clause(studies=studies, patients=frozenset({patient})))
        if reports and with_report:
            clauses.append(Clause(documents=reports, patients=frozenset({patient})))
    return tuple(clauses)


def may_take_away(caller: Caller) -> bool:
    """Whether whole DICOM objects may be retrieved: always, but by a visitor whose grant is to look at."""
    is_visitor = caller.principal.kind is PrincipalKind.VISITOR
    return not is_visitor or caller.may(TAKE_AWAY)


def visitor_caller(access: Access, grant_id: str, secret: str, address: str) -> Caller:
    """The caller of a visit of this very grant. Raises Unauthenticated."""
    visit = visit_of(access, secret, address)
    if visit.grant_id != grant_id:
        raise Unauthenticated
    return visit.caller


def end_visit(access: Access, visit: Visit) -> None:
    """The visitor leaves: the cookie opens nothing any more."""
    with access.database.transaction() as session:
        session.execute(
            update(ShareVisit)
            .where(ShareVisit.id == visit.caller.principal.id)
            .values(revoked_at=access.clock.now())
        )
