"""Codes by SMS that prove a phone: for opening a share, and for a patient's sign-in.

An opening is bound to one browser by a cookie of its own, and to one share. Whatever a phone is, the answer
is the same and costs the same: only the phone's holder learns whether a code was sent. A code has six
digits, lives for minutes, and dies after a few wrong tries, which are counted in the database before the
code is looked at, so that parallel tries share one count. Sending is limited for each number, address,
network and share, and by what the whole site is willing to pay for in a day.
"""

import hmac
import ipaddress
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.orm import Session

from access.audit import REFUSED, note
from access.caller import Caller, Door, Permissions, Principal, PrincipalKind
from access.grant_model import PhoneChallenge, ShareGrant, ShareVisit
from access.grants import (
    ACCOUNT,
    BEARER,
    PASSCODE,
    PHONE,
    WECHAT,
    account_index,
    begin_visit,
    is_passcode,
    living_grant,
    sharing_of,
)
from access.model import Account
from access.patient_accounts import bound, openid_index
from access.phones import masked, normal_phone, phone_index
from access.rates import Limit, TooOften, count_up, within_limits
from access.share_policy import CodeLimits
from access.tokens import Access, digest_of
from kernel.changes import record_change
from kernel.clock import new_id, new_secret
from kernel.errors import CloudfilmError, Kind, Unauthenticated
from kernel.jobs import job

log = logging.getLogger(__name__)

OPENING_S = 1800  # a page that was opened and left for longer begins anew
MOST_PASSCODE_FAILURES = 10  # in a share's whole life
TEMPLATE = "sign-in-code"
STEPS = {PASSCODE: "passcode", BEARER: "open", ACCOUNT: "account", WECHAT: "wechat"}  # else the phone

SendCode = Callable[[Session, str, str, dict[str, str]], None]
"""Queues a message within the transaction: phone, template, values."""
Relation = Callable[[Session, "ShareGrant | None", str], str]
"""Whose a phone is, for a share: patient, family, recipient, or nobody's (empty)."""


class LinkExpired(CloudfilmError):
    """A share that has ended, or never was: the two look alike."""

    kind = Kind.GONE

    def __init__(self) -> None:
        super().__init__("The link has expired.")


class WrongCode(Unauthenticated):
    """A code or passcode that is wrong, over, or was used."""

    def __init__(self) -> None:
        super().__init__("The code is wrong or no longer valid.")


@dataclass(frozen=True, slots=True)
class Opening:
    """An opening under way: the secret for the browser's cookie, and what comes next."""

    secret: str
    step: str  # phone, passcode, account, wechat or open
    grant_id: str


@dataclass(frozen=True, slots=True)
class LetIn:
    """A visitor who was let in."""

    grant_id: str
    secret: str  # of the visit


def begin_opening(access: Access, secret: str, address: str) -> Opening:
    """Begin to open the share of a secret. Nothing is counted as used. Raises LinkExpired or TooOften."""
    _require_calm_address(access, address)
    with access.database.transaction() as session:
        grant = living_grant(session, access, secret)
        if grant is None:
            raise LinkExpired
        step = STEPS.get(grant.binding, "phone")
        return Opening(_begin(access, session, grant.id), step, grant.id)


def begin_sign_in(access: Access, address: str, openid: str = "") -> str:
    """Begin a patient's sign-in by phone; returns the secret for the browser's cookie. Raises TooOften."""
    _require_calm_address(access, address)
    with access.database.transaction() as session:
        return _begin(access, session, "", openid)


def _begin(access: Access, session: Session, subject: str, openid: str = "") -> str:
    secret, now = new_secret(), access.clock.now()
    session.execute(
        insert(PhoneChallenge).values(
            id=new_id(),
            digest=digest_of(access, secret),
            subject=subject,
            openid=openid,
            created_at=now,
            expires_at=now + timedelta(seconds=OPENING_S),
        )
    )
    return secret


def send_code(
    access: Access, secret: str, phone_text: str, address: str, relation_of: Relation, send: SendCode
) -> None:
    """Send a code, if the phone may open what this browser opens; who asks is not told whether it may.

    Raises InvalidPhone, TooOften, or LinkExpired when the browser has to begin anew.
    """
    phone = normal_phone(phone_text)
    index = phone_index(access.keys, phone)
    with access.database.transaction() as session:
        challenge = _living(access, session, secret)
        limits = sharing_of(session).limits
        within = _within_limits(access, session, limits, challenge.subject, index, address)
        grant = session.get(ShareGrant, challenge.subject) if challenge.subject else None
        relation = relation_of(session, grant, phone)
        code = f"{secrets.randbelow(10**6):06d}"
        sends = bool(relation) and within and _within_budget(access, session, limits)
        if within:
            now = access.clock.now()
            challenge.phone = access.keys.seal_bytes(phone.encode(), f"challenge {challenge.id}")
            challenge.phone_index, challenge.relation = index, relation
            challenge.code = _code(access, challenge, code) if sends else b""
            challenge.code_until = now + timedelta(seconds=limits.code_s)
            challenge.tries = 0
            patient = grant.patient if grant else ""
            if sends:
                values = {"code": code, "minutes": str(max(1, limits.code_s // 60))}
                send(session, phone, TEMPLATE, values)
            note(
                session, access.clock, _nobody(phone, address, challenge.subject), "send code",
                challenge.subject, outcome="done" if sends else REFUSED, patient_id=patient,
            )  # fmt: skip
    if not within:
        raise TooOften


def _code(access: Access, challenge: PhoneChallenge, code: str) -> bytes:
    return digest_of(access, f"code {challenge.id} {challenge.phone_index} {code}")


def _within_limits(
    access: Access, session: Session, limits: CodeLimits, subject: str, index: str, address: str
) -> bool:
    now = access.clock.now()
    checks = [
        within_limits(session, now, f"code phone {index}", *limits.of_phone()),
        within_limits(session, now, f"code address {address}", Limit(limits.address_an_hour, 3600)),
        within_limits(
            session, now, f"code network {network_of(address)}", Limit(limits.network_an_hour, 3600)
        ),
    ]
    if subject:
        checks.append(within_limits(session, now, f"code share {subject}", Limit(limits.share_an_hour, 3600)))
    return all(checks)


def _within_budget(access: Access, session: Session, limits: CodeLimits) -> bool:
    """Whether the site still pays for one more today; the first time it does not is told."""
    count = count_up(session, access.clock.now(), "code site", Limit(limits.sms_a_day, 86400))
    if count == limits.sms_a_day + 1:
        record_change(session, access.clock, "sms-budget-spent", "site", most=limits.sms_a_day)
        log.error("the day's budget of %d codes by SMS is spent; no more are sent", limits.sms_a_day)
    return count <= limits.sms_a_day


def network_of(address: str) -> str:
    """The /24 of an IPv4 address, the /56 of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{address}/{24 if parsed.version == 4 else 56}", strict=False))


def _require_calm_address(access: Access, address: str) -> None:
    with access.database.transaction() as session:
        most = Limit(sharing_of(session).limits.address_an_hour * 10, 3600)
        within = within_limits(session, access.clock.now(), f"opening address {address}", most)
    if not within:
        raise TooOften


def _living(access: Access, session: Session, secret: str) -> PhoneChallenge:
    challenge = session.scalar(
        select(PhoneChallenge)
        .where(
            PhoneChallenge.digest == digest_of(access, secret),
            PhoneChallenge.expires_at > access.clock.now(),
            PhoneChallenge.spent_at.is_(None),
        )
        .with_for_update()
    )
    if challenge is None:
        raise LinkExpired
    return challenge


@dataclass(frozen=True, slots=True)
class Proven:
    """A phone that was proven in this browser, for what it began."""

    subject: str
    phone: str
    relation: str
    openid: str


def prove_phone(access: Access, secret: str, code: str, address: str) -> Proven:
    """Spend the code that was sent. Raises WrongCode, after counting the try, or LinkExpired."""
    tries = _count_try(access, secret)
    with access.database.transaction() as session:
        challenge = _living(access, session, secret)
        now = access.clock.now()
        right = (
            0 < tries <= sharing_of(session).limits.tries
            and challenge.code_until is not None
            and challenge.code_until > now
            and hmac.compare_digest(challenge.code, _code(access, challenge, code.strip()[:16]))
        )
        phone = (
            access.keys.open_bytes(challenge.phone, f"challenge {challenge.id}").decode()
            if challenge.phone
            else ""
        )
        if right:
            challenge.spent_at = now
            return Proven(challenge.subject, phone, challenge.relation, challenge.openid)
        note(
            session, access.clock, _nobody(phone, address, challenge.subject), "prove phone",
            challenge.subject, outcome=REFUSED,
        )  # fmt: skip
    raise WrongCode


def _count_try(access: Access, secret: str) -> int:
    """Count one try before the code is looked at, in a transaction of its own."""
    with access.database.transaction() as session:
        counted = session.execute(
            update(PhoneChallenge)
            .where(PhoneChallenge.digest == digest_of(access, secret))
            .values(tries=PhoneChallenge.tries + 1)
            .returning(PhoneChallenge.tries)
        ).scalar()
    return counted or 0


def enter_by_code(access: Access, secret: str, code: str, address: str) -> LetIn:
    """Open a share with the code that was sent. Raises WrongCode or LinkExpired."""
    proven = prove_phone(access, secret, code, address)
    if not proven.subject:
        raise WrongCode
    with access.database.transaction() as session:
        grant = session.get(ShareGrant, proven.subject)
        relation = proven.relation or ("recipient" if grant and grant.binding == PHONE else "")
        return LetIn(
            proven.subject,
            begin_visit(access, session, proven.subject, relation, proven.phone, address),
        )


def try_passcode(access: Access, grant_id: str, passcode: str, address: str) -> tuple[bool, int]:
    """Whether a passcode is right, and how many wrong ones the share still takes.

    A try is counted before it is looked at, so that parallel ones share the count; a right one is given back.
    """
    with access.database.transaction() as session:
        failures = session.execute(
            update(ShareGrant)
            .where(ShareGrant.id == grant_id, ShareGrant.binding == PASSCODE)
            .values(failures=ShareGrant.failures + 1)
            .returning(ShareGrant.failures)
        ).scalar()
        grant = session.get(ShareGrant, grant_id, populate_existing=True)
        if grant is None or failures is None:
            return False, 0
        if failures <= MOST_PASSCODE_FAILURES and is_passcode(access, grant, passcode[:200]):
            grant.failures -= 1
            return True, MOST_PASSCODE_FAILURES - grant.failures
        note(
            session, access.clock, _nobody("", address, grant_id), "try passcode", grant_id,
            outcome=REFUSED, patient_id=grant.patient,
        )  # fmt: skip
        return False, max(0, MOST_PASSCODE_FAILURES - failures)


def enter_by_passcode(access: Access, secret: str, passcode: str, address: str) -> LetIn:
    """Open a share with its passcode. A wrong one counts for the share's whole life. Raises WrongCode."""
    with access.database.snapshot() as session:
        subject = _living(access, session, secret).subject
    right, _ = try_passcode(access, subject, passcode, address)
    if not right:
        raise WrongCode
    with access.database.transaction() as session:
        _living(access, session, secret).spent_at = access.clock.now()
        return LetIn(subject, begin_visit(access, session, subject, "recipient", "", address))


def enter_by_account(access: Access, secret: str, caller: Caller, address: str) -> LetIn:
    """Open a share that is bound to the caller's account, by its login name or phone. Raises WrongCode."""
    with access.database.transaction() as session:
        challenge = _living(access, session, secret)
        grant = session.get(ShareGrant, challenge.subject)
        account = session.get(Account, caller.principal.id)
        if grant is not None and grant.binding == ACCOUNT and account is not None:
            names = (account.login, *bound(access, session, account.id, PHONE))
            if grant.phone_index in {account_index(access, name) for name in names}:
                challenge.spent_at = access.clock.now()
                visitor = account.name or account.login
                return LetIn(
                    grant.id, begin_visit(access, session, grant.id, "recipient", "", address, visitor)
                )
        _note_refused(access, session, challenge, address)
    raise WrongCode


def enter_by_openid(access: Access, secret: str, openid: str, address: str) -> LetIn:
    """Open a share that is bound to a WeChat user: the first one who opens it. Raises WrongCode."""
    with access.database.transaction() as session:
        challenge = _living(access, session, secret)
        index = openid_index(access, openid)
        session.execute(
            update(ShareGrant)
            .where(
                ShareGrant.id == challenge.subject, ShareGrant.binding == WECHAT, ShareGrant.phone_index == ""
            )
            .values(phone_index=index if openid else "")
        )
        grant = session.get(ShareGrant, challenge.subject, populate_existing=True)
        if openid and grant is not None and grant.binding == WECHAT and grant.phone_index == index:
            challenge.spent_at = access.clock.now()
            visitor = f"WeChat {index[:6]}"
            return LetIn(grant.id, begin_visit(access, session, grant.id, "recipient", "", address, visitor))
        _note_refused(access, session, challenge, address)
    raise WrongCode


def _note_refused(access: Access, session: Session, challenge: PhoneChallenge, address: str) -> None:
    note(
        session, access.clock, _nobody("", address, challenge.subject), "open Share", challenge.subject,
        outcome=REFUSED,
    )  # fmt: skip


def enter_freely(access: Access, secret: str, address: str) -> LetIn:
    """Open a share that its bearer may open. Raises WrongCode for any other."""
    with access.database.transaction() as session:
        challenge = _living(access, session, secret)
        grant = session.get(ShareGrant, challenge.subject)
        if grant is None or grant.binding != BEARER:
            raise WrongCode
        challenge.spent_at = access.clock.now()
        return LetIn(grant.id, begin_visit(access, session, grant.id, "recipient", "", address))


def _nobody(phone: str, address: str, grant_id: str) -> Caller:
    """Somebody who has proven nothing yet, for the audit trail."""
    shown = masked(phone) if phone else ""
    principal = Principal(PrincipalKind.VISITOR, "", shown)
    return Caller(principal, Door.SHARE, Permissions(), address=address, grant=grant_id, purpose="PATRQT")


@job(every=timedelta(hours=1))
def sweep_openings(access: Access) -> None:
    """Remove openings and visits that are over; what happened in them stands in the audit trail."""
    now = access.clock.now()
    with access.database.transaction() as session:
        session.execute(delete(PhoneChallenge).where(PhoneChallenge.expires_at < now - timedelta(days=1)))
        over = or_(ShareVisit.expires_at < now - timedelta(days=1), ShareVisit.revoked_at < now)
        session.execute(delete(ShareVisit).where(over))
