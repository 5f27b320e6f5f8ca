"""The administration API: accounts, nodes, apps, site documents and the audit trail for programs, as JSON.

The console's pages and these routes call the same room functions. The OpenAPI document is made from the
routes and schemas below and stands at `/api/openapi.json`; a request's caller comes from its bearer token or
from the browser's session, as at every door.
"""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from flask import Flask
from flask.views import MethodView
from flask_smorest import Api, Blueprint
from marshmallow import Schema, fields, validate

from access.accounts import account_of, change_account, create_account, list_accounts, revoke_own
from access.bearer import current_caller
from access.caller import Action, Caller, Door
from access.model import Account, AuditEntry
from access.node_register import MOST_BYTES_PER_S, NodeRow, list_nodes, put_node, remove_node
from access.oauth.clients import AUTH_METHODS, GRANT_TYPES, disable_client, list_clients, register_client
from access.roles import ROLES
from access.site_documents import (
    document_history,
    document_kind,
    put_document,
    readable_kinds,
    roll_back_document,
)
from access.tokens import Access
from access.trail import MOST_ROWS, TrailQuery, search_trail
from kernel.errors import CloudfilmError, Kind
from kernel.http import room

OPENAPI = {
    "API_TITLE": "cloudfilm administration",
    "API_VERSION": "1",
    "OPENAPI_VERSION": "3.0.3",
    "OPENAPI_URL_PREFIX": "/api",
    "OPENAPI_JSON_PATH": "openapi.json",
    "API_SPEC_OPTIONS": {
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "cloudfilm_session"},
            }
        },
        "security": [{"bearer": []}, {"session": []}],
    },
}


class NoSuchApp(CloudfilmError):
    """No app has this id."""

    kind = Kind.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("No app has this id.")


PRINTABLE = validate.Regexp(r"[^\x00-\x1f\x7f]*\Z")


def text(most: int, **more: Any) -> fields.String:
    """A text of one line."""
    return fields.String(validate=[validate.Length(max=most), PRINTABLE], **more)


class AccountSchema(Schema):
    """A person who signs in."""

    id = fields.String(dump_only=True)
    login = text(64, required=True)
    name = text(200, load_default="")
    role = fields.String(required=True, validate=validate.OneOf(sorted(ROLES)))
    institution = text(32, load_default="")
    department = text(64, load_default="")
    disabled = fields.Boolean(dump_only=True)
    password = text(256, required=True, load_only=True)


class AccountChangeSchema(Schema):
    """What of an account is to change."""

    name = text(200)
    role = fields.String(validate=validate.OneOf(sorted(ROLES)))
    institution = text(32)
    department = text(64)
    fhir_user = text(128)
    patients = text(2000)
    disabled = fields.Boolean()


class NodeSchema(Schema):
    """A DIMSE or MLLP peer."""

    ae_title = fields.String(dump_only=True)
    host = text(255, load_default="")
    port = fields.Integer(load_default=104, validate=validate.Range(1, 65535))
    addresses = text(2000, load_default="")
    permissions = text(64, load_default="store,find,retrieve")
    institution = text(32, load_default="")
    department = text(64, load_default="")
    certificate = text(64, load_default="")
    tls = fields.Boolean(load_default=False)
    max_associations = fields.Integer(load_default=0, validate=validate.Range(0, 1024))
    alternates = text(2000, load_default="")
    transfer_syntaxes = text(2000, load_default="")
    max_sending = fields.Integer(load_default=0, validate=validate.Range(0, 1024))
    max_bytes_per_s = fields.Integer(load_default=0, validate=validate.Range(0, MOST_BYTES_PER_S))


class ClientSchema(Schema):
    """An app or service (RFC 7591)."""

    client_id = fields.String(dump_only=True)
    client_secret = fields.String(dump_only=True)
    client_name = text(200, required=True)
    redirect_uris = fields.List(text(2000), load_default=[], validate=validate.Length(max=20))
    grant_types = fields.List(
        fields.String(validate=validate.OneOf(GRANT_TYPES)), load_default=["authorization_code"]
    )
    token_endpoint_auth_method = fields.String(
        load_default="client_secret_basic", validate=validate.OneOf(AUTH_METHODS)
    )
    scope = text(2000, load_default="")
    jwks_uri = text(2000, load_default="")
    launch_url = text(2000, load_default="")


class DocumentSchema(Schema):
    """A site document in force."""

    name = fields.String()
    about = fields.String()


class VersionSchema(Schema):
    """One version of a site document."""

    number = fields.Integer()
    at = fields.DateTime()
    by = fields.String()
    comment = fields.String()
    document = fields.String()


class NewVersionSchema(Schema):
    """A new version of a site document: its text, or an older version's number to put in force again."""

    document = fields.String(validate=validate.Length(max=1_000_000))
    version = fields.Integer(validate=validate.Range(1, 2**31 - 1))
    comment = text(200, load_default="")


class WrittenSchema(Schema):
    """Which version is in force now."""

    number = fields.Integer()


class AuditQuerySchema(Schema):
    """What to look for in the audit trail."""

    principal = text(200, load_default="")
    action = text(64, load_default="")
    subject = text(160, load_default="")
    patient = text(64, load_default="")
    outcome = text(16, load_default="")
    address = text(64, load_default="")
    after = fields.AwareDateTime(load_default=None)
    before = fields.AwareDateTime(load_default=None)
    beyond = fields.Integer(load_default=0, validate=validate.Range(0, 2**62))
    most = fields.Integer(load_default=100, validate=validate.Range(1, MOST_ROWS))


class AuditEntrySchema(Schema):
    """One thing that somebody did, or was refused."""

    seq = fields.Integer()
    at = fields.DateTime()
    principal_kind = fields.String()
    principal_id = fields.String()
    principal_name = fields.String()
    door = fields.String()
    address = fields.String()
    action = fields.String()
    outcome = fields.String()
    subject = fields.String()
    patient_id = fields.String()
    purpose = fields.String()
    detail = fields.String()
    hash = fields.String()


blp = Blueprint("api", __name__, description="Administration of a site")
Sent = dict[str, Any]


def _caller() -> Caller:
    return current_caller(Door.WEB)


@blp.before_request
def _is_known() -> None:
    """Who is nobody here learns nothing, not even what of its request was wrong."""
    _caller()


@blp.route("/accounts")
class Accounts(MethodView):
    """All accounts."""

    @blp.response(200, AccountSchema(many=True))
    def get(self) -> list[Account]:
        """List accounts."""
        return list(list_accounts(room(Access), _caller()))

    @blp.arguments(AccountSchema)
    @blp.response(201, AccountSchema)
    def post(self, sent: Sent) -> Account:
        """Add an account; its holder has to change the password first."""
        access, caller = room(Access), _caller()
        caller.require(Action("Account", "c"))
        with access.database.transaction() as session:
            create_account(
                access, session, caller, sent["login"], sent["password"], sent["role"], name=sent["name"],
                institution=sent["institution"] or access.settings.institution,
                department=sent["department"], must_change=True,
            )  # fmt: skip
        return account_of(access, sent["login"])


@blp.route("/accounts/<login>")
class OneAccount(MethodView):
    """One account."""

    @blp.arguments(AccountChangeSchema)
    @blp.response(200, AccountSchema)
    def patch(self, sent: Sent, login: str) -> Account:
        """Change an account; its sessions and tokens end."""
        change_account(room(Access), _caller(), login, **sent)
        return account_of(room(Access), login)


@blp.route("/nodes")
class Nodes(MethodView):
    """All nodes."""

    @blp.response(200, NodeSchema(many=True))
    def get(self) -> list[NodeRow]:
        """List nodes."""
        return list(list_nodes(room(Access), _caller()))


@blp.route("/nodes/<ae_title>")
class OneNode(MethodView):
    """One node."""

    @blp.arguments(NodeSchema)
    @blp.response(200, NodeSchema)
    def put(self, sent: Sent, ae_title: str) -> NodeRow:
        """Add a node, or change it."""
        row = NodeRow(ae_title, **sent)
        put_node(room(Access), _caller(), row)
        return row

    @blp.response(204)
    def delete(self, ae_title: str) -> None:
        """Forget a node."""
        remove_node(room(Access), _caller(), ae_title)


@blp.route("/clients")
class Clients(MethodView):
    """All apps."""

    @blp.response(200, ClientSchema(many=True))
    def get(self) -> Iterable[Sent]:
        """List apps."""
        return [
            {
                **asdict_without_secret(each), "client_name": each.name, "launch_url": each.launch_uri,
                "token_endpoint_auth_method": each.auth_method,
            }
            for each in list_clients(room(Access), _caller())
        ]  # fmt: skip

    @blp.arguments(ClientSchema)
    @blp.response(201, ClientSchema)
    def post(self, sent: Sent) -> Sent:
        """Register an app; its secret is told this once."""
        return register_client(room(Access), _caller(), sent)


def asdict_without_secret(client: Any) -> Sent:
    """The fields of a registered client that may be told."""
    names = ("client_id", "redirect_uris", "grant_types", "scope", "jwks_uri")
    return {name: getattr(client, name) for name in names}


@blp.route("/clients/<client_id>")
class OneClient(MethodView):
    """One app."""

    @blp.response(204)
    def delete(self, client_id: str) -> None:
        """End an app and every token that it has."""
        if not disable_client(room(Access), _caller(), client_id):
            raise NoSuchApp


@blp.route("/documents")
class Documents(MethodView):
    """The site's documents."""

    @blp.response(200, DocumentSchema(many=True))
    def get(self) -> Iterable[Sent]:
        """List the documents that the caller may read."""
        kinds = readable_kinds(room(Access), _caller())
        return [{"name": kind.name, "about": kind.about} for kind in kinds]


@blp.route("/documents/<name>/versions")
class Versions(MethodView):
    """The versions of one document."""

    @blp.response(200, VersionSchema(many=True))
    def get(self, name: str) -> Iterable[Sent]:
        """List every version, the newest first."""
        kind = document_kind(room(Access), name)
        return [asdict(each) for each in document_history(room(Access), _caller(), kind)]

    @blp.arguments(NewVersionSchema)
    @blp.response(201, WrittenSchema)
    def post(self, sent: Sent, name: str) -> Sent:
        """Put a new version in force, or an older one again."""
        access, caller = room(Access), _caller()
        kind = document_kind(access, name)
        if "version" in sent:
            return {"number": roll_back_document(access, caller, kind, sent["version"])}
        return {"number": put_document(access, caller, kind, sent.get("document", ""), sent["comment"])}


@blp.route("/audit")
class Audit(MethodView):
    """The audit trail."""

    @blp.arguments(AuditQuerySchema, location="query")
    @blp.response(200, AuditEntrySchema(many=True))
    def get(self, sent: Sent) -> list[AuditEntry]:
        """Search the trail, the newest first. The search is itself written into it."""
        most: int = sent.pop("most")
        moments: dict[str, datetime | None] = {name: sent[name] for name in ("after", "before")}
        return list(search_trail(room(Access), _caller(), TrailQuery(**{**sent, **moments}), most))


@blp.route("/my/tokens/<token_id>")
class OwnToken(MethodView):
    """One of the caller's own sessions or apps."""

    @blp.response(204)
    def delete(self, token_id: str) -> None:
        """End it, with all that came from it."""
        revoke_own(room(Access), _caller(), token_id)


def register(app: Flask) -> None:
    """Put the routes and their OpenAPI document into the application."""
    app.config.update(OPENAPI)
    Api(app).register_blueprint(blp, url_prefix="/api")
