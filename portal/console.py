"""The console: pages for accounts, rules, apps, nodes, audit and explanations, and each person's own ones.

A page is a table and a few forms, drawn by one template; what may be done is asked of the room by the
function that does it, so a page that somebody may not use is refused there and left out of the menu here.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import wraps
from typing import Any
from urllib.parse import quote

import segno
from flask import Blueprint, Response, make_response, redirect, render_template, request
from sqlalchemy import select
from werkzeug.wrappers import Response as AnyResponse

from access.accounts import (
    account_of,
    change_account,
    change_password,
    create_account,
    factors_of,
    list_accounts,
    password_due,
    reset_password,
    revoke_own,
    set_certificate,
)
from access.bearer import current_caller
from access.caller import SEARCH_IMAGES, Action, Caller, Door
from access.explain import decision_about
from access.model import Account, Token
from access.node_register import NodeRow, list_nodes, put_node, remove_node
from access.oauth.clients import (
    AUTH_METHODS,
    InvalidClientMetadata,
    disable_client,
    list_clients,
    register_client,
)
from access.policy import Step
from access.roles import BEYOND_SECURITY, ROLES, Span
from access.rules import parse_actions
from access.second_factor import (
    confirm_totp,
    list_factors,
    offer_totp,
    remove_own_factor,
    remove_second_factors,
    set_phone,
)
from access.security_keys import keep_key, offer_key
from access.site import (
    BREAK_GLASS,
    UPDATE_POLICY,
    break_glass,
    count_unreviewed_glass,
    review_glass,
    unreviewed_glass,
)
from access.site_documents import (
    DocumentKind,
    document_history,
    document_kind,
    document_version,
    put_document,
    readable_kinds,
    roll_back_document,
)
from access.tokens import ACCESS, REFRESH, SESSION, Access
from access.trail import seen_by
from archive.explain import hiding_steps
from archive.room import Archive
from kernel.errors import CloudfilmError, Forbidden, Kind, Unauthenticated
from kernel.http import STATUS, room
from portal.account import HEADERS, relying_party
from portal.audit_words import acted, decided_by, ended
from portal.catalogue import language, say, texts
from portal.film import local_time
from portal.refusals import told

blp = Blueprint("console", __name__, template_folder="templates")

MENU: tuple[tuple[str, str, tuple[Action, ...]], ...] = (
    # page, path, and the actions of which one at least lets it be seen; none: everybody's own
    ("accounts", "/admin/accounts", (Action("Account", "s"),)),
    ("documents", "/admin/documents", (Action("Policy", "r"), Action("Setting", "r"))),
    ("glass", "/admin/glass", (Action("Policy", "r"),)),
    ("explain", "/admin/explain", (Action("Policy", "r"),)),
    ("clients", "/admin/clients", (Action("Client", "s"),)),
    ("nodes", "/admin/nodes", (Action("Node", "s"),)),
    ("audit", "/admin/audit", (Action("AuditTrail", "s"),)),
    ("shares", "/staff/shares", (Action("Glass", "c"),)),  # clinical staff; patients have their own pages
    ("sharing", "/admin/sharing", (Action("Policy", "r"),)),
    ("gateways", "/admin/gateways", (Action("Setting", "r"),)),
    ("review", "/review/persons", (Action("Patient", "u"),)),
    ("apps", "/my/apps", (SEARCH_IMAGES,)),
    ("emergency", "/my/glass", (Action("Glass", "c"),)),
    ("mine", "/my/access", ()),
    ("password", "/my/password", ()),
    ("factor", "/my/factor", ()),
    ("log", "/my/log", ()),
    ("order", "/my/order", ()),
)
MENU_COOKIE = "cloudfilm_menu"  # names of pages that its user put first, in this browser
YEAR_S = 31536000


GLASS_HOURS = ("1", "4", "12")


@dataclass(frozen=True, slots=True)
class Field:
    """One input of a form, labelled by `field.<name>`, or by the text of another key."""

    name: str
    kind: str = "text"  # text, password, area, or select
    value: str = ""
    choices: tuple[str, ...] = ()
    prefix: str = ""  # of the keys of the choices' texts; empty: they are shown as they are
    required: bool = True
    label: str = ""  # of another key: `app_name` for `field.app_name`
    suggestions: tuple[tuple[str, str], ...] = ()  # of a text: what may be entered, and what it means


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a page."""

    fields: tuple[Field, ...]
    submit: str = ""  # key of the button's text
    method: str = "post"
    text: str = ""  # of the button, where it is no text of the catalogue
    action: str = ""  # where it goes; empty: to the page itself
    picture: str = ""  # an SVG as a data address, for a QR code
    id: str = ""  # of a form that a script sends
    failed: str = ""  # key of what is said when the script fails


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a page's table, with the one thing that can be done to it."""

    cells: tuple[str, ...]
    key: str = ""  # what the row's button sends
    submit: str = ""  # key of the button's text
    link: str = ""  # where its first cell leads


@dataclass(frozen=True, slots=True)
class Page:
    """What the template draws."""

    title: str
    headings: tuple[str, ...] = ()
    rows: Sequence[Row] = ()
    forms: tuple[Form, ...] = ()
    message: str = ""
    hint: str = ""
    next_page: str = ""  # the query of the page that follows
    downloads: tuple[tuple[str, str], ...] = ()  # key of the text, and address
    script: str = ""  # of the assets
    status: int = 200
    leads_to: tuple[str, ...] = ()  # other sites that the answer of a form may lead to


Draw = Callable[..., "Page | AnyResponse"]


def page(draw: Draw) -> Callable[..., AnyResponse]:
    """Draw what a view returns for who is signed in; who is not, is led to the sign-in page."""

    @wraps(draw)
    def answer(**values: str) -> AnyResponse:
        try:
            caller = current_caller(Door.PORTAL)
        except Unauthenticated:
            if request.method == "GET":
                return redirect(f"/sign-in?next={request.path}", 303)
            raise
        try:
            drawn = draw(caller, **values)
        except CloudfilmError as refusal:
            if refusal.kind in (Kind.FAULT, Kind.UNAUTHENTICATED, Kind.TOO_MANY):
                raise
            drawn = Page("refused", message=told(refusal), status=STATUS[refusal.kind])
        return _html(caller, drawn) if isinstance(drawn, Page) else drawn

    return answer


def menu_of(caller: Caller) -> list[tuple[str, str]]:
    """The pages that a caller may see, and where they are, in the order that this browser's user chose."""
    seen = [(name, path) for name, path, any_of in MENU if not any_of or any(map(caller.may, any_of))]
    first = request.cookies.get(MENU_COOKIE, "").split(".")
    return sorted(seen, key=lambda each: first.index(each[0]) if each[0] in first else len(first))


def _html(caller: Caller, drawn: Page) -> Response:
    menu = menu_of(caller)
    waiting = {"glass": count_unreviewed_glass(room(Access))} if caller.may(UPDATE_POLICY) else {}
    html = render_template(
        "console.html", say=say, language=language(), page=drawn, menu=menu, here=request.path,
        name=caller.principal.name, waiting=waiting,
    )  # fmt: skip
    answer = make_response(html, drawn.status)
    answer.headers.update(HEADERS)
    answer.headers["Content-Security-Policy"] = (
        HEADERS["Content-Security-Policy"]
        .replace("img-src 'self'", "img-src 'self' data:")
        .replace("form-action 'self'", " ".join(("form-action 'self'", *drawn.leads_to)))
    )
    return answer


def _done(act: Callable[[], object]) -> str:
    """Do what a form asked for; returns what to say about it."""
    try:
        act()
    except CloudfilmError as refusal:
        if refusal.kind in (Kind.FORBIDDEN, Kind.UNAUTHENTICATED, Kind.FAULT):
            raise
        return say("console.wrong", reason=told(refusal))
    return say("console.done")


def _when(at: datetime | None) -> str:
    return local_time(at) if at else ""


def _sent(name: str) -> str:
    return request.form.get(name, "").strip()


@blp.route("/admin/accounts", methods=["GET", "POST"])
@page
def accounts(caller: Caller) -> Page:
    """Accounts and their roles: add one, or open one to change it."""
    access, message = room(Access), ""
    if request.method == "POST":
        message = _done(lambda: _add_account(access, caller))
    rows = [
        Row(
            (
                each.login, each.name, say(f"role.{each.role}"), each.institution, each.department,
                say("console.disabled" if each.disabled else "console.active"),
            ),
            link=f"/admin/accounts/{quote(each.login)}",
        )
        for each in list_accounts(access, caller)
    ]  # fmt: skip
    fields = (
        Field("login"),
        Field("name", required=False),
        Field("role", "select", choices=_roles(caller), prefix="role."),
        Field("institution", value=access.settings.institution),
        Field("department", required=False),
        Field("password", "password"),
    )
    headings = ("login", "name", "role", "institution", "department", "state")
    return Page("accounts", headings, rows, (Form(fields, "console.add"),), message)


def _add_account(access: Access, caller: Caller) -> None:
    caller.require(Action("Account", "c"))
    with access.database.transaction() as session:
        create_account(
            access, session, caller, _sent("login"), request.form.get("password", ""), _sent("role"),
            name=_sent("name"), institution=_sent("institution"), department=_sent("department"),
            must_change=True,
        )  # fmt: skip


def _roles(caller: Caller) -> tuple[str, ...]:
    """The roles that the caller may give away."""
    beyond = BEYOND_SECURITY if caller.principal.role == "security_administrator" else frozenset({"operator"})
    clinical_first = sorted(ROLES, key=lambda code: ROLES[code].span in (Span.ALL, Span.NOTHING))
    return tuple(code for code in clinical_first if code not in beyond)


def _act(name: str) -> Field:
    return Field("act", "hidden", name)


CHANGED = ("name", "role", "institution", "department", "fhir_user", "patients")


def _act_on(access: Access, caller: Caller, login: str, act: str) -> None:
    """What one of an account's forms asks for."""
    if act == "change":
        change_account(access, caller, login, **{name: _sent(name) for name in CHANGED})
    elif act == "give-password":
        reset_password(access, caller, login, request.form.get("password", ""))
    elif act == "give-phone":
        set_phone(access, caller, account_of(access, login).id, _sent("phone"))
    elif act == "give-certificate":
        set_certificate(access, caller, login, _sent("certificate").encode())
    elif act == "forget-factors":
        remove_second_factors(access, caller, account_of(access, login).id)
    elif act in ("disable", "enable"):
        change_account(access, caller, login, disabled=act == "disable")


@blp.route("/admin/accounts/<login>", methods=["GET", "POST"])
@page
def one_account(caller: Caller, login: str) -> Page:
    """One account: change it, give it a password, forget its second factors, disable it."""
    access, message = room(Access), ""
    caller.require(Action("Account", "s"))
    if request.method == "POST":
        message = _done(lambda: _act_on(access, caller, login, _sent("act")))
    account = account_of(access, login)
    switch = "enable" if account.disabled else "disable"
    forms = (
        Form(
            (
                _act("change"),
                Field("name", value=account.name),
                Field("role", "select", account.role, (*_roles(caller), account.role), prefix="role."),
                Field("institution", value=account.institution, required=False),
                Field("department", value=account.department, required=False),
                Field("fhir_user", value=account.fhir_user, required=False),
                Field("patients", value=account.patients, required=False),
            ),
            "console.save",
        ),
        Form(
            (Field("act", "hidden", "give-password"), Field("password", "password")), "console.give-password"
        ),
        Form((_act("give-phone"), Field("phone", required=False)), "console.give-phone"),
        Form(
            (_act("give-certificate"), Field("certificate", "area", label="certificate_pem")),
            "console.give-certificate",
        ),
        Form((Field("act", "hidden", "forget-factors"),), "console.forget-factors"),
        Form((_act(switch),), f"console.{switch}"),
    )
    with access.database.snapshot() as session:
        proves = [say(f"factor.{kind}") for kind in factors_of(session, account)]
    proves += [say("factor.certificate")] if account.certificate else []
    hint = " · ".join((account.login, say(f"role.{account.role}"), *proves))
    return Page("accounts", forms=forms, message=message, hint=hint)


@blp.get("/admin/documents")
@page
def documents(caller: Caller) -> Page:
    """The site's documents that the caller may read."""
    access = room(Access)
    if not caller.may(Action("Policy", "r")):
        caller.require(Action("Setting", "r"))
    rows = []
    with access.database.snapshot() as session:
        for kind in readable_kinds(access, caller):
            version = document_version(session, kind)
            shown = str(version) if version else say("console.default")
            rows.append(Row((kind.name, _about(kind), shown), link=f"/admin/documents/{kind.name}"))
    return Page("documents", ("document_name", "about", "version"), rows)


def _readable(document: str) -> str:
    """A document as people edit it: one thing a line, in its own script."""
    try:
        return json.dumps(json.loads(document), indent=2, ensure_ascii=False)
    except ValueError:
        return document


def _about(kind: DocumentKind) -> str:
    """What a document is for, in this request's language where the catalogue has it."""
    return texts(language()).get(f"document.{kind.name}", kind.about)


@blp.route("/admin/documents/<name>", methods=["GET", "POST"])
@page
def document(caller: Caller, name: str) -> Page:
    """One document: edit it, look at an older version, put that in force again."""
    access, message = room(Access), ""
    kind = document_kind(access, name)
    if request.method == "POST" and _sent("key"):
        number = int(_sent("key")) if _sent("key").isdecimal() else 0
        message = _done(lambda: roll_back_document(access, caller, kind, number))
    elif request.method == "POST":
        seen = int(_sent("version")) if _sent("version").isdecimal() else None
        text, comment = _sent("document"), _sent("comment")
        message = _done(lambda: put_document(access, caller, kind, text, comment, instead_of=seen))
    history = document_history(access, caller, kind)
    present = history[0] if history else None
    asked = request.args.get("version", "")
    shown = next((each for each in history if str(each.number) == asked), present)
    refused = message not in ("", say("console.done"))
    present_text = _readable(shown.document if shown else kind.default)
    text = _sent("document") if refused and _sent("document") else present_text
    rows = [
        Row(
            (str(each.number), _when(each.at), each.by, each.comment),
            "" if each is present else str(each.number),
            "" if each is present else "console.roll-back",
            f"/admin/documents/{name}?version={each.number}",
        )
        for each in history
    ]
    fields = (
        Field("version", "hidden", str(present.number if present else 0)),
        Field("document", "area", text),
        Field("comment", required=False),
    )
    headings = ("version", "at", "by", "comment")
    return Page(
        "documents", headings, rows, (Form(fields, "console.save"),), message, f"{name}: {_about(kind)}"
    )


@blp.route("/admin/glass", methods=["GET", "POST"])
@page
def glass(caller: Caller) -> Page:
    """Broken glass that waits for a review."""
    access, message = room(Access), ""
    if request.method == "POST":
        number = int(_sent("number")) if _sent("number").isdecimal() else 0
        message = _done(lambda: review_glass(access, caller, number, _sent("verdict")))
    rows = [
        Row((str(each.id), _when(each.at), each.account_id, f"Patient/{each.patient}", each.reason))
        for each in unreviewed_glass(access, caller)
    ]
    forms = (Form((Field("number"), Field("verdict")), "console.review"),) if rows else ()
    return Page("glass", ("number", "at", "who", "patient", "reason"), rows, forms, message)


@blp.get("/admin/explain")
@page
def explain(caller: Caller) -> Page:
    """Why somebody may or may not do something."""
    caller.require(Action("Policy", "r"))
    asked = {
        name: request.args.get(name, "").strip()
        for name in ("login", "action", "address", "scope", "at", "study")
    }
    form = Form(
        (
            Field("login", value=asked["login"], label="login_or_node"),
            Field("action", value=asked["action"] or "ImagingStudy.r"),
            Field("address", value=asked["address"], required=False),
            Field("scope", value=asked["scope"], required=False),
            Field("at", "datetime-local", asked["at"], required=False),
            Field("study", value=asked["study"], required=False),
        ),
        "console.find",
        "get",
    )
    if not asked["login"]:
        return Page("explain", forms=(form,))
    try:
        wanted = parse_actions(asked["action"])[0]
        decision = decision_about(
            room(Access), asked["login"], address=asked["address"], scope=asked["scope"] or None,
            at=datetime.fromisoformat(asked["at"]) if asked["at"] else None,
        )  # fmt: skip
        hiding = hiding_steps(room(Archive), decision, wanted, asked["study"]) if asked["study"] else ()
    except (CloudfilmError, ValueError) as refusal:
        return Page("explain", forms=(form,), message=say("console.wrong", reason=told(refusal)))
    rows = [
        Row(
            (
                say(f"console.{'hides' if step in hiding else _said_by(step, wanted)}"),
                decided_by(step.name),
                told(step.reason),
            )
        )
        for step in decision.steps
    ]
    refused = decision.refusals(wanted) or hiding
    verdict = say("console.may-not" if refused else "console.may", action=str(wanted))
    return Page("explain", ("outcome", "step", "reason"), rows, (form,), verdict)


def _said_by(step: Step, wanted: Action) -> str:
    """What a step says to an action: allows, refuses, or limits it to some rows."""
    if not step.lets(wanted):
        return "refuses"
    return "allows" if step.limit is None else "limits"


@blp.route("/admin/clients", methods=["GET", "POST"])
@page
def clients(caller: Caller) -> Page:
    """Apps: register one, end one."""
    access, message = room(Access), ""
    if request.method == "POST" and _sent("key"):
        message = _done(lambda: disable_client(access, caller, _sent("key")))
    elif request.method == "POST":
        registered: dict[str, Any] = {}
        message = _done(lambda: registered.update(register_client(access, caller, _client_metadata())))
        if registered.get("client_secret"):
            message = f"{message} {say('field.secret')}: {registered['client_secret']}"
    rows = [
        Row(
            (each.name, each.client_id, say(f"method.{each.auth_method}"), each.scope),
            each.client_id,
            "console.remove",
        )
        for each in list_clients(access, caller)
    ]
    fields = (
        Field("name", label="app_name"),
        Field("client_kind", "select", choices=tuple(CLIENT_GRANTS), prefix="client."),
        Field("method", "select", prefix="method.", choices=AUTH_METHODS),
        Field("scope", required=False),
        Field("launch_url", required=False),
        Field("jwks_uri", required=False),
        Field("redirect_uris", "area"),
        Field("jwks", "area"),
    )
    return Page(
        "clients", ("app_name", "id", "method", "scope"), rows, (Form(fields, "console.add"),), message
    )


CLIENT_GRANTS = {  # what a client may ask for
    "app": ["authorization_code", "refresh_token"],
    "service": ["client_credentials"],
}


def _client_metadata() -> dict[str, Any]:
    """What the form says of a client, as RFC 7591 has it. Raises InvalidClientMetadata."""
    try:
        jwks = json.loads(_sent("jwks") or "null")
    except ValueError:
        raise InvalidClientMetadata("jwks", "a JWK set") from None
    return {
        "client_name": _sent("name"),
        "redirect_uris": _sent("redirect_uris").split(),
        "launch_url": _sent("launch_url"),
        "scope": _sent("scope"),
        "token_endpoint_auth_method": _sent("method"),
        "grant_types": CLIENT_GRANTS.get(_sent("client_kind"), CLIENT_GRANTS["app"]),
        "jwks_uri": _sent("jwks_uri"),
        "jwks": jwks,
    }


@blp.route("/admin/nodes", methods=["GET", "POST"])
@page
def nodes(caller: Caller) -> Page:
    """The DIMSE and MLLP peers that are known: add one, change one, forget one."""
    access, message = room(Access), ""
    if request.method == "POST" and _sent("key"):
        message = _done(lambda: remove_node(access, caller, _sent("key")))
    elif request.method == "POST":
        message = _done(lambda: put_node(access, caller, _node_row()))
    found = list_nodes(access, caller)
    refused = message not in ("", say("console.done"))
    asked = request.args.get("edit", "")
    shown = next((each for each in found if each.ae_title == asked), NodeRow(""))
    if refused and _sent("ae_title"):
        shown = _node_row()
    rows = [
        Row(
            (
                each.ae_title, f"{each.host}:{each.port}" if each.host else "", each.addresses,
                each.institution, each.permissions, "TLS" if each.tls or each.certificate else "",
            ),
            each.ae_title, "console.remove", f"/admin/nodes?edit={quote(each.ae_title)}",
        )
        for each in found
    ]  # fmt: skip
    fields = (
        Field("ae_title", value=shown.ae_title),
        Field("host", value=shown.host, required=False),
        Field("port", "number", str(shown.port)),
        Field("addresses", value=shown.addresses, required=False),
        Field("permissions", value=shown.permissions),
        Field("institution", value=shown.institution or access.settings.institution),
        Field("department", value=shown.department, required=False),
        Field("certificate", value=shown.certificate, required=False),
        Field("tls", "select", "yes" if shown.tls else "no", ("no", "yes"), prefix="console."),
        Field("alternates", value=shown.alternates, required=False),
        Field("transfer_syntaxes", value=shown.transfer_syntaxes, required=False),
        Field("max_associations", "number", str(shown.max_associations), required=False),
        Field("max_sending", "number", str(shown.max_sending), required=False),
        Field("max_bytes_per_s", "number", str(shown.max_bytes_per_s), required=False),
    )
    headings = ("ae_title", "host", "addresses", "institution", "permissions", "tls")
    return Page("nodes", headings, rows, (Form(fields, "console.save"),), message, say("console.node-hint"))


def _node_row() -> NodeRow:
    return NodeRow(
        _sent("ae_title"), _sent("host"), _number("port"),
        _sent("addresses"), _sent("permissions").replace(" ", ""), _sent("institution"),
        _sent("department"), _sent("certificate").lower().replace(":", ""), _sent("tls") == "yes",
        _number("max_associations"), _sent("alternates"), _sent("transfer_syntaxes"),
        _number("max_sending"), _number("max_bytes_per_s"),
    )  # fmt: skip


def _number(name: str) -> int:
    """The number that was sent; -1, which no field allows, for what is none."""
    text = _sent(name)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else -1 if text else 0


@blp.route("/my/glass", methods=["GET", "POST"])
@page
def my_glass(caller: Caller) -> Page:
    """Break the glass: exceed policy for one patient, with a reason, for some hours."""
    caller.require(BREAK_GLASS)
    message = ""
    if request.method == "POST":
        hours = int(_sent("hours")) if _sent("hours") in GLASS_HOURS else 1
        life = timedelta(hours=hours)
        message = _done(lambda: break_glass(room(Access), caller, _sent("patient"), _sent("reason"), life))
    fields = (Field("patient"), Field("reason", "area"), Field("hours", "select", choices=GLASS_HOURS))
    return Page(
        "emergency", forms=(Form(fields, "console.save"),), message=message, hint=say("console.glass-hint")
    )


@blp.route("/my/access", methods=["GET", "POST"])
@page
def my_access(caller: Caller) -> Page:
    """My devices and apps: what acts for me now, each with its end."""
    access, message = room(Access), ""
    if request.method == "POST":
        message = _done(lambda: revoke_own(access, caller, _sent("key")))
    now = access.clock.now()
    with access.database.snapshot() as session:
        found = session.scalars(
            select(Token)
            .where(
                Token.account_id == caller.principal.id,
                Token.kind.in_((SESSION, ACCESS, REFRESH)),
                Token.revoked_at.is_(None),
                Token.expires_at > now,
            )
            .order_by(Token.created_at.desc())
        ).all()
    rows = [
        Row(
            (
                say(f"my.{each.kind}") + (f" · {say('my.this')}" if each.id == caller.grant else ""),
                each.label, each.scope, _when(each.created_at), _when(each.used_at),
            ),
            each.id,
            "console.end",
        )
        for each in found
    ]  # fmt: skip
    return Page("mine", ("kind", "device", "scope", "since", "used"), rows, message=message)


@blp.route("/my/password", methods=["GET", "POST"])
@page
def my_password(caller: Caller) -> Page:
    """Change my password."""
    message = ""
    if request.method == "POST":
        old, new = request.form.get("old", ""), request.form.get("new", "")
        try:
            change_password(room(Access), caller, old, new)
            message = say("console.done")
        except CloudfilmError as refusal:
            message = say("console.wrong", reason=told(refusal))
    elif "must" in request.args:
        message = told(password_due(room(Access), caller))
    form = Form((Field("old", "password"), Field("new", "password")), "console.save")
    return Page("password", forms=(form,), message=message, hint=say("set-up.password-hint"))


@blp.route("/my/factor", methods=["GET", "POST"])
@page
def my_factor(caller: Caller) -> Page:
    """My second factors: add an authenticator app or a security key, take one away."""
    access, message = room(Access), say("console.must-factor") if "must" in request.args else ""
    if request.method == "POST" and _sent("key"):
        message = _done(lambda: remove_own_factor(access, caller, _sent("key")))
    elif request.method == "POST" and _sent("code"):
        try:
            confirm_totp(access, caller, _sent("id"), _sent("code"))
        except Unauthenticated:
            return Page("factor", message=say("sign-in.wrong-code"), status=STATUS[Kind.UNPROCESSABLE])
        message = say("console.done")
    elif request.method == "POST":
        offer = offer_totp(access, caller, _own_login(caller))
        picture = segno.make(offer.uri, error="m").svg_data_uri(scale=5, border=2)
        fields = (Field("id", "hidden", offer.id), Field("code"))
        form = Form(fields, "console.save", picture=picture)
        return Page("factor", forms=(form,), hint=say("console.totp-hint"))
    rows = [
        Row((say(f"factor.{each.kind}"), each.label, _when(each.created_at)), each.id, "console.remove")
        for each in list_factors(access, caller)
    ]
    forms = (
        Form((), "factor.add-totp"),
        Form((Field("label", value=say("factor.webauthn")),), "factor.add-key", id="make-key",
             failed="factor.no-key"),
    )  # fmt: skip
    return Page("factor", ("kind", "factor_name", "since"), rows, forms, message, script="webauthn.js")


def _own_login(caller: Caller) -> str:
    with room(Access).database.snapshot() as session:
        login = session.scalar(select(Account.login).where(Account.id == caller.principal.id))
    if not login:
        raise Forbidden("set up a second factor", "Only an account has one.")
    return login


@blp.post("/my/factor/key/options")
def key_options() -> Response:
    """What a new security key is made for (WebAuthn 7.1)."""
    caller = current_caller(Door.PORTAL)
    offered = offer_key(room(Access), caller, _own_login(caller), relying_party())
    return Response(offered, mimetype="application/json")


@blp.post("/my/factor/key")
def add_key() -> Response:
    """Keep a new security key."""
    caller, sent = current_caller(Door.PORTAL), request.get_json(silent=True)
    told: dict[str, Any] = sent if isinstance(sent, dict) else {}
    keep_key(room(Access), caller, relying_party(), told.get("answer"), str(told.get("label", "")))
    return make_response({})


@blp.route("/my/order", methods=["GET", "POST"])
@page
def my_menu(caller: Caller) -> Page | AnyResponse:
    """The order of the menu: each page can be put first; the usual order comes back by one button."""
    names = [name for name, _ in menu_of(caller)]
    if request.method == "POST":
        first = _sent("key")
        order = [first, *(name for name in names if name != first)] if first in names else []
        answer = redirect("/my/order", 303)
        answer.set_cookie(
            MENU_COOKIE, ".".join(order), max_age=YEAR_S if order else 0, httponly=True, samesite="Lax",
            secure=request.is_secure,
        )  # fmt: skip
        return answer
    rows = [
        Row((say(f"console.{name}"),), name, "console.first" if at else "") for at, name in enumerate(names)
    ]
    usual = Form((), "console.usual")
    return Page("order", ("page",), rows, (usual,), hint=say("console.order-hint"))


@blp.get("/my/log")
@page
def my_log(caller: Caller) -> Page:
    """Who saw my images: every entry of the trail about the patients that this account is."""
    access = room(Access)
    with access.database.snapshot() as session:
        own = session.scalar(select(Account.patients).where(Account.id == caller.principal.id)) or ""
    rows = [
        Row(
            (
                _when(each.at),
                each.principal_name or each.principal_id,
                acted(each.action),
                ended(each.outcome),
            )
        )
        for each in seen_by(access, caller, frozenset(own.replace(",", " ").split()))
    ]
    return Page("log", ("at", "who", "action", "outcome"), rows)
