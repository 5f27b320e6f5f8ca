"""Security keys and passkeys as the second factor: registration, and proof at the sign-in.

A challenge is kept as a keyed hash, bound to the account and to the session or half session that asked for
it, and is spent by the first answer. The key signs for this site's name alone, so a look-alike page gets
nothing that counts here; a signature counter that does not grow (a copied key) is refused.

Standards: W3C Web Authentication Level 2, sections 7.1 (registration) and 7.2 (assertion).
"""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from access.accounts import count_failure, note_sign_in, open_session, require_unlocked
from access.audit import REFUSED, note
from access.caller import Caller, Door
from access.model import SecondFactor, Token
from access.second_factor import WrongCode
from access.tokens import HALF, Access, caller_of, digest_of, issue, revoke, revoke_where
from kernel.clock import new_id, new_secret

WEBAUTHN = "webauthn"
CHALLENGE = "challenge"
CHALLENGE_LIFE_S = 300.0
MOST_ID = 512  # characters of a credential's id in base64url


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """The site as browsers know it: the name that keys sign for, and where its pages are."""

    id: str
    origin: str


def offer_key(access: Access, caller: Caller, login: str, site: RelyingParty) -> str:
    """What the browser needs to make a key for the caller's own account, as JSON."""
    with access.database.transaction() as session:
        known = _keys(session, caller.principal.id)
        challenge = _challenge(access, session, caller)
    return options_to_json(
        generate_registration_options(
            rp_id=site.id, rp_name="cloudfilm", user_name=login, user_id=caller.principal.id.encode(),
            challenge=challenge.encode(), exclude_credentials=_descriptors(known),
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.DISCOURAGED,
                user_verification=UserVerificationRequirement.PREFERRED,
            ),
        )
    )  # fmt: skip


def keep_key(access: Access, caller: Caller, site: RelyingParty, answer: Any, label: str) -> None:
    """Put a new key in force. Other sessions of the account end. Raises WrongCode."""
    with access.database.transaction() as session:
        challenge = _spent_challenge(access, session, caller, answer)
        try:
            made = verify_registration_response(
                credential=answer, expected_challenge=challenge, expected_rp_id=site.id,
                expected_origin=site.origin,
            )  # fmt: skip
        except (WebAuthnException, ValueError, TypeError, KeyError):
            raise WrongCode from None
        credential = bytes_to_base64url(made.credential_id)
        is_known = session.scalar(select(SecondFactor.id).where(SecondFactor.credential == credential))
        if len(credential) > MOST_ID or is_known is not None:
            raise WrongCode
        factor_id = new_id()
        session.execute(
            insert(SecondFactor).values(
                id=factor_id, account_id=caller.principal.id, kind=WEBAUTHN, credential=credential,
                secret=access.keys.seal_bytes(made.credential_public_key, f"webauthn {factor_id}"),
                counter=made.sign_count, label=label.strip()[:100], confirmed=True,
                created_at=access.clock.now(),
            )
        )  # fmt: skip
        revoke_where(access, session, Token.account_id == caller.principal.id, Token.id != caller.grant)
        note(session, access.clock, caller, "add second factor", factor_id, detail=WEBAUTHN)


def ask_for_key(access: Access, half_secret: str, address: str, site: RelyingParty) -> str:
    """What the browser needs to have a key sign, as JSON. Raises Unauthenticated when the half session is
    over."""
    half = caller_of(access, half_secret, (HALF,), Door.WEB, address)
    with access.database.transaction() as session:
        known = _keys(session, half.principal.id)
        challenge = _challenge(access, session, half)
    return options_to_json(
        generate_authentication_options(
            rp_id=site.id, challenge=challenge.encode(), allow_credentials=_descriptors(known),
            user_verification=UserVerificationRequirement.PREFERRED,
        )
    )  # fmt: skip


def finish_with_key(access: Access, half_secret: str, answer: Any, address: str, site: RelyingParty) -> str:
    """Begin the session that the password alone did not open; returns its secret.

    Raises Unauthenticated when the half session is over, AccountLocked, or WrongCode.
    """
    half = caller_of(access, half_secret, (HALF,), Door.WEB, address)
    account_id, name = half.principal.id, half.principal.name
    require_unlocked(access, account_id, name, address)
    with access.database.transaction() as session:
        if _is_signed(access, session, half, answer, site):
            revoke(access, session, half.grant)
            return open_session(access, session, account_id, name, address, "pwd hwk")
    count_failure(access, account_id)
    note_sign_in(access, name, address, REFUSED, "wrong security key")
    raise WrongCode


def _is_signed(access: Access, session: Session, half: Caller, answer: Any, site: RelyingParty) -> bool:
    """Whether one of the account's own keys signed the challenge of this half session."""
    try:
        challenge = _spent_challenge(access, session, half, answer)
    except WrongCode:
        return False
    credential = str(answer.get("rawId", ""))
    row = next((each for each in _keys(session, half.principal.id) if each.credential == credential), None)
    if row is None:
        return False
    try:
        signed = verify_authentication_response(
            credential=answer, expected_challenge=challenge, expected_rp_id=site.id,
            expected_origin=site.origin, credential_current_sign_count=row.counter,
            credential_public_key=access.keys.open_bytes(row.secret, f"webauthn {row.id}"),
        )  # fmt: skip
    except (WebAuthnException, ValueError, TypeError, KeyError):
        return False
    row.counter = signed.new_sign_count
    return True


def _keys(session: Session, account_id: str) -> list[SecondFactor]:
    return list(
        session.scalars(
            select(SecondFactor).where(
                SecondFactor.account_id == account_id,
                SecondFactor.kind == WEBAUTHN,
                SecondFactor.confirmed.is_(True),
            )
        )
    )


def _descriptors(rows: list[SecondFactor]) -> list[PublicKeyCredentialDescriptor]:
    return [PublicKeyCredentialDescriptor(id=base64url_to_bytes(row.credential)) for row in rows]


def _challenge(access: Access, session: Session, caller: Caller) -> str:
    """A fresh challenge for this session alone; an earlier one no longer counts."""
    mine = (Token.kind == CHALLENGE, Token.session_id == caller.grant)
    revoke_where(access, session, *mine)
    challenge = new_secret()
    issue(
        access, session, CHALLENGE, life_s=CHALLENGE_LIFE_S, account_id=caller.principal.id,
        session_id=caller.grant, secret=f"webauthn {challenge}",
    )  # fmt: skip
    return challenge


def _spent_challenge(access: Access, session: Session, caller: Caller, answer: Any) -> bytes:
    """The challenge that an answer was signed over, if this session asked for it, spent by asking.

    Raises WrongCode for one that is unknown, over or spent, and for what is no answer at all.
    """
    try:
        client_data = json.loads(base64url_to_bytes(answer["response"]["clientDataJSON"]))
        challenge = base64url_to_bytes(client_data["challenge"])
        digest = digest_of(access, f"webauthn {challenge.decode()}")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise WrongCode from None
    spent = revoke_where(
        access, session, Token.digest == digest, Token.kind == CHALLENGE,
        Token.session_id == caller.grant, Token.expires_at > access.clock.now(),
    )  # fmt: skip
    if not spent:
        raise WrongCode
    return challenge
