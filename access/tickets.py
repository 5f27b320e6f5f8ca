"""Tickets: for a browser's WebSocket, which can show no header. Good once, and for a minute.

Whoever is signed in takes a ticket and puts it into the URL; who comes with it is the one who took it, with
the same rights, as long as the session or token lives that it was taken with. A long-lived token never
stands in a URL, where logs and histories would keep it.
"""

from flask import Blueprint, Response, jsonify
from sqlalchemy import select

from access.bearer import current_caller
from access.caller import Caller, Door
from access.model import Token
from access.tokens import Access, caller_of_token, digest_of, issue, revoke
from kernel.errors import Unauthenticated
from kernel.http import room

blp = Blueprint("tickets", __name__)

TICKET = "ticket"
LIFE_S = 60


@blp.post("/ws-ticket")
def take_ticket() -> Response:
    """A ticket for whoever makes this request."""
    access, caller = room(Access), current_caller(Door.WEB)
    answer = jsonify({"ticket": issue_ticket(access, caller), "expires_in": LIFE_S})
    answer.headers["Cache-Control"] = "no-store"
    return answer


def issue_ticket(access: Access, caller: Caller) -> str:
    """A ticket that stands for the token or session that the caller shows. Raises Unauthenticated."""
    if not caller.grant:
        raise Unauthenticated
    with access.database.transaction() as session:
        return issue(access, session, TICKET, life_s=LIFE_S, session_id=caller.grant)


def redeem_ticket(access: Access, secret: str, door: Door, address: str) -> Caller:
    """Who took this ticket; it is used up. Raises Unauthenticated."""
    now = access.clock.now()
    with access.database.transaction() as session:
        row = session.execute(
            select(Token.id, Token.session_id).where(
                Token.digest == digest_of(access, secret), Token.kind == TICKET, Token.expires_at > now
            )
        ).first()
        if row is None or not revoke(access, session, row.id):
            raise Unauthenticated
    return caller_of_token(access, row.session_id, door, address)
