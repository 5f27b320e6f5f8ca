"""Signing in at a hospital's own OpenID provider: the two addresses that a browser passes on its way."""

from flask import Blueprint, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from access.bearer import client_address
from access.federation import arrive, begin, provider_of
from access.oauth.endpoints import key_sets
from access.tokens import Access
from kernel.errors import CloudfilmError
from kernel.http import base_url, room
from kernel.settings import Settings
from portal.account import inside, refused_journey, signed_in_to

blp = Blueprint("federation", __name__)

STATE_COOKIE = "cloudfilm_federation"


def _back(provider_id: str) -> str:
    """Our redirect URI, which the hospital has registered."""
    return f"{base_url(room(Settings).web.public_url)}/sign-in/with/{provider_id}/back"


@blp.get("/sign-in/with/<provider_id>")
def leave(provider_id: str) -> AnyResponse:
    """Go to the hospital's sign-in."""
    access = room(Access)
    try:
        provider = provider_of(access, provider_id)
        wanted = inside(request.args.get("next", ""))
        journey = begin(access, key_sets(), provider, _back(provider.id), wanted)
    except CloudfilmError as refusal:
        return refused_journey(refusal)
    answer = redirect(journey.url, 303)
    answer.set_cookie(
        STATE_COOKIE, journey.state, httponly=True, secure=request.is_secure, samesite="Lax",
        path="/sign-in/with", max_age=600,
    )  # fmt: skip
    return answer


@blp.get("/sign-in/with/<provider_id>/back")
def come_back(provider_id: str) -> AnyResponse:
    """Begin a session with what the hospital said."""
    access, kept = room(Access), request.cookies.get(STATE_COOKIE, "")
    try:
        provider = provider_of(access, provider_id)
        arrival = arrive(
            access, key_sets(), provider, _back(provider.id), request.args, kept, client_address()
        )
    except CloudfilmError as refusal:
        return refused_journey(refusal)
    answer = signed_in_to(arrival.secret, arrival.wanted)
    answer.delete_cookie(STATE_COOKIE, path="/sign-in/with")
    return answer
