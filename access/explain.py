"""Why somebody may or may not do something: the same decision as for a request, made for an administrator."""

from datetime import datetime

from access.accounts import NoSuchAccount, account_of
from access.caller import Clause, Door, Principal, PrincipalKind
from access.model import Account
from access.nodes import find_node, node_decision
from access.policy import Decision, decide
from access.roles import PERSONAL
from access.scopes import parse_scopes
from access.tokens import Access, broken_glass, role_in_force, site_of


def decision_about(
    access: Access,
    who: str,
    door: Door | None = None,
    *,
    address: str = "",
    at: datetime | None = None,
    scope: str | None = None,
    patient: str = "",
) -> Decision:
    """The decision that who signs in by this name would meet, or the node of this AE title.

    door: None: where such a caller usually comes in. scope, patient: of an account's app; a node has none.
    Raises NoSuchAccount, InvalidScope, or UnknownNode for a node that calls from elsewhere.
    """
    try:
        account = account_of(access, who)
    except NoSuchAccount:
        if find_node(access, who) is None:
            raise
        moment = at.astimezone() if at else access.clock.now()
        return node_decision(access, who, door or Door.DIMSE, address, moment)
    return decision_for(
        access, account, door or Door.WEB, address=address, at=at, scope=scope, patient=patient
    )


def decision_for(
    access: Access,
    account: Account,
    door: Door,
    *,
    address: str = "",
    at: datetime | None = None,
    scope: str | None = None,
    patient: str = "",
) -> Decision:
    """The decision that a request of this account would meet.

    scope: of an app's token; None for a browser session. at: without a zone it is taken as the site's own.
    Raises InvalidScope or RowChanged.
    """
    access.require_intact(account)
    moment = at.astimezone() if at else access.clock.now()
    own = frozenset((account.patients or "").replace(",", " ").split())
    principal = Principal(
        PrincipalKind.ACCOUNT, account.id, account.name, account.institution, account.department,
        role_in_force(access.settings, account.role), account.fhir_user,
    )  # fmt: skip
    return decide(
        principal,
        door,
        scopes=None if scope is None else parse_scopes(scope)[0],
        context={"patient": patient} if patient else {},
        granted=(Clause(patients=own),) if own else (),
        glass=broken_glass(access, account.id, moment),
        site=site_of(access),
        address=address,
        at=moment,
        purpose="PATRQT" if account.role in PERSONAL else "TREAT",
        login=account.login,
    )
