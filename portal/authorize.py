"""What people see of the OAuth door: the consent screen for an app with its patient picker, and the launch
of an app from the portal.

RFC 6749 section 3.1, SMART App Launch 2.2 section 2 (launch, standalone and from the EHR).
"""

import json
import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

from authlib.integrations.flask_oauth2.requests import FlaskOAuth2Request
from authlib.oauth2 import OAuth2Error
from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from access.accounts import sign_out
from access.bearer import COOKIE, client_address, is_same_origin
from access.caller import SEARCH_IMAGES, Action, Caller, Door
from access.oauth.clients import find_client
from access.oauth.endpoints import fhir_base, issuer, oauth_server
from access.oauth.keys import claims_of_own
from access.oauth.server import Person, begin_launch
from access.scopes import Scope, launch_scope, parse_scopes, permitted
from access.tokens import SESSION, Access, caller_of, signed_in_at
from kernel.errors import CloudfilmError, Forbidden, Kind, Unauthenticated
from kernel.http import room
from portal.account import HEADERS, page_due
from portal.catalogue import language, say, texts
from portal.refusals import told
from records.repository import read
from records.room import Records
from records.search import parse_search, search

blp = Blueprint("authorize", __name__, template_folder="templates")

PASSED_ON = (
    "response_type", "client_id", "redirect_uri", "scope", "state", "aud", "resource", "launch", "nonce",
    "code_challenge", "code_challenge_method", "prompt", "login_hint", "display", "max_age",
)  # fmt: skip
SIGN_IN_ANEW = frozenset({"login", "select_account"})  # of prompt
INTENT = re.compile(r"[A-Za-z][\w.:/#-]{0,199}")
SHOWN = 20


class NotLaunched(CloudfilmError):
    """An app or a patient that is not there, or not to be known of."""

    kind = Kind.NOT_FOUND


@blp.route("/oauth/authorize", methods=["GET", "POST"])
def authorize() -> AnyResponse:
    """The consent screen. A wrong request goes back to the app only when its redirect URI is right."""
    try:
        grant = _grant(None)
    except OAuth2Error as refusal:
        return _refused(refusal)
    caller, prompts = _signed_in(), set(request.values.get("prompt", "").split())
    if caller is None or prompts & SIGN_IN_ANEW or _is_long_ago(caller):
        if "none" in prompts:
            return _back(grant.redirect_uri, error="login_required")
        return _to_sign_in(prompts)
    due = page_due(caller)
    if "none" in prompts:
        return _back(grant.redirect_uri, error="interaction_required" if due else "consent_required")
    if due:
        return redirect(due, 303)
    try:
        grant = _grant(_person(caller))
    except OAuth2Error as refusal:
        return _refused(refusal)
    return _page(grant, caller)


@blp.post("/oauth/approve")
def approve() -> AnyResponse:
    """What the person decided on the consent screen."""
    if not is_same_origin():
        raise Forbidden("a form of another site's page", "Use this site's own pages.")
    caller = _signed_in()
    if caller is None:
        raise Unauthenticated
    try:
        grant = _grant(_person(caller))
    except OAuth2Error as refusal:
        return _refused(refusal)
    if request.form.get("decision") != "approve" or page_due(caller):
        return _back(grant.redirect_uri, error="access_denied")
    context: dict[str, str] = dict(grant.request.launch or {})
    picks = _picks(grant)
    if picks:
        chosen = request.form.get(picks, "")
        reached = _studies(caller, [("_id", chosen)]) if picks == "study" else _reachable(caller, [chosen])
        if chosen not in {each["id"] for each in reached}:
            return _page(grant, caller, say(f"authorize.choose-{picks}"))
        if picks == "study":
            context["imagingstudy"] = chosen
        if _needs_patient(grant):
            context.setdefault("patient", reached[0]["patient"])
    if "imagingstudy" in context:
        context["imagingstudy_roles"] = " ".join(_roles(grant, "launch/imagingstudy") or ())
    grant.request.context = context
    grant.request.approved_scope = " ".join(_granted(grant, caller))
    if not grant.request.approved_scope:
        return _back(grant.redirect_uri, error="invalid_scope")
    answer: AnyResponse = oauth_server().create_authorization_response(
        request=grant.request, grant_user=_person(caller), grant=grant
    )
    location = answer.headers.get("Location", "")
    if location:  # RFC 9207
        joiner = "&" if "?" in location else "?"
        answer.headers["Location"] = f"{location}{joiner}{urlencode({'iss': issuer()})}"
    answer.status_code = 303 if answer.status_code == 302 else answer.status_code
    return answer


@blp.post("/apps/<client_id>/launch")
def launch(client_id: str) -> AnyResponse:
    """Open an app with the patient, encounter or study at hand (SMART 2.2, 2.0.6: launch from the EHR)."""
    if not is_same_origin():
        raise Forbidden("a form of another site's page", "Use this site's own pages.")
    caller = _signed_in()
    client = find_client(room(Access), client_id)
    if caller is None or client is None:
        raise Unauthenticated if caller is None else NotLaunched("The app is not known.")
    context = {
        name: request.form[name]
        for name in ("patient", "encounter", "imagingstudy", "intent", "banner")
        if request.form.get(name)
    }
    if "patient" in context and not _reachable(caller, [context["patient"]]):
        raise NotLaunched("The patient was not found.")
    for name, resource_type in (("imagingstudy", "ImagingStudy"), ("encounter", "Encounter")):
        if name in context:
            document = json.loads(read(room(Records), caller, resource_type, context[name]).body)
            subject = document.get("subject", {}).get("reference", "").removeprefix("Patient/")
            if subject and context.setdefault("patient", subject) != subject:
                raise NotLaunched(f"The {resource_type} is not of that patient.")
    if not INTENT.fullmatch(context.get("intent", "x")):
        raise NotLaunched("An intent is a name or an address.")
    try:
        return redirect(begin_launch(room(Access), caller, client, fhir_base(), context), 303)
    except OAuth2Error as refusal:
        raise NotLaunched(str(refusal.description)) from None


@blp.route("/oauth/logout", methods=["GET", "POST"])
def logout() -> AnyResponse:
    """End the browser's session (OpenID Connect RP-Initiated Logout 1.0).

    Who shows an ID token of that very session is believed, and our own form; any other link leads to a page
    that asks. The browser goes on to an address that is registered for the app, and to no other.
    """
    access, caller = room(Access), _signed_in()
    hint = claims_of_own(access, request.values.get("id_token_hint", ""))
    goes_on = _after_logout(str(hint.get("aud") or request.values.get("client_id", "")))
    if caller is not None:
        is_ours = request.method == "POST" and is_same_origin()
        if not is_ours and (not hint or hint.get("sid") != caller.grant):
            return _asks_to_log_out(goes_on)
        sign_out(access, request.cookies[COOKIE])
    answer = redirect(goes_on or "/sign-in", 303)
    answer.delete_cookie(COOKIE)
    return answer


def _after_logout(client_id: str) -> str:
    """Where the app wants its person to go on, with its state; empty when that is not registered."""
    uri, client = request.values.get("post_logout_redirect_uri", ""), find_client(room(Access), client_id)
    if not uri or client is None or not client.check_redirect_uri(uri):
        return ""
    state = request.values.get("state")
    return f"{uri}{'&' if urlsplit(uri).query else '?'}{urlencode({'state': state})}" if state else uri


def _asks_to_log_out(goes_on: str) -> Response:
    names = ("client_id", "post_logout_redirect_uri", "state", "id_token_hint")
    html = render_template(
        "logout.html", say=say, language=language(),
        parameters={name: request.values[name] for name in names if name in request.values},
    )  # fmt: skip
    return _leading_to(goes_on, html)


def _grant(person: Person | None) -> Any:
    server = oauth_server()
    oauth_request = FlaskOAuth2Request(request)
    oauth_request.launch = None
    oauth_request.user = person
    grant = server.get_authorization_grant(oauth_request)
    try:
        grant.validate_no_multiple_request_parameter(oauth_request)
        grant.validate_consent_request()
    except OAuth2Error as refusal:
        refusal.state = request.values.get("state")
        raise
    return grant


def _signed_in() -> Caller | None:
    secret = request.cookies.get(COOKIE)
    if not secret:
        return None
    try:
        return caller_of(room(Access), secret, (SESSION,), Door.PORTAL, client_address())
    except Unauthenticated:
        return None


def _is_long_ago(caller: Caller) -> bool:
    """Whether the person signed in longer ago than the app stands (OpenID Connect Core 3.1.2.1, max_age)."""
    most_s = request.values.get("max_age", "")
    if not (most_s.isascii() and most_s.isdecimal() and len(most_s) < 10):
        return False
    access = room(Access)
    return access.clock.now() - signed_in_at(access, caller.grant) > timedelta(seconds=int(most_s))


def _to_sign_in(prompts: set[str]) -> AnyResponse:
    """Let the person sign in and come back; what asked for that is left out then, for it was done."""
    asked = {name: value for name, value in _passed_on().items() if name not in ("prompt", "max_age")}
    if prompts - SIGN_IN_ANEW:
        asked["prompt"] = " ".join(sorted(prompts - SIGN_IN_ANEW))
    here = f"/oauth/authorize?{urlencode(asked)}"
    return redirect(f"/sign-in?{urlencode({'next': here})}", 303)


def _person(caller: Caller) -> Person:
    principal, since = caller.principal, signed_in_at(room(Access), caller.grant)
    return Person(principal.id, caller.grant, principal.role, principal.fhir_user, since)


def _granted(grant: Any, caller: Caller) -> list[str]:
    """The scopes that the person may hand on: asked, registered, and within what it may do itself."""
    resources, _ = parse_scopes(grant.request.scope)
    kept = [str(each) for each in permitted(resources, caller.permissions) if each.level != "system"]
    words = [word for word in grant.request.scope.split() if "/" not in word or word.startswith("launch/")]
    return list(dict.fromkeys([*words, *kept]))


def _needs_patient(grant: Any) -> bool:
    """Whether a patient must be in context: asked for, or needed by a patient scope (SMART 2.2, 3.0.2)."""
    resources, words = parse_scopes(grant.request.scope)
    return "launch/patient" in words or any(scope.level == "patient" for scope in resources)


def _picks(grant: Any) -> str:
    """What the person chooses on the page: a study, a patient, or nothing that the launch has not named."""
    launch = grant.request.launch or {}
    if _roles(grant, "launch/imagingstudy") is not None and not launch:
        return "study"
    return "patient" if _needs_patient(grant) and "patient" not in launch else ""


def _roles(grant: Any, kind: str) -> list[str] | None:
    """The roles for which a context was asked (SMART 2.2, 3.0.6); None when it was not."""
    asked = [launch_scope(word) for word in grant.request.scope.split()]
    if all(scope != kind for scope, _ in asked):
        return None
    return [role for scope, role in asked if scope == kind and role]


def _page(grant: Any, caller: Caller, message: str = "") -> Response:
    picks = _picks(grant)
    wanted = request.values.get("find", "").strip()
    client = grant.request.client
    html = render_template(
        "authorize.html",
        say=say,
        language=language(),
        app=client.name or say("authorize.no-name"),
        host=urlsplit(grant.redirect_uri).netloc or urlsplit(grant.redirect_uri).scheme,
        name=caller.principal.name,
        scopes=[_described(text) for text in _granted(grant, caller)],
        parameters=_passed_on(),
        picks=picks,
        find=wanted,
        choices=_choices(caller, picks, wanted),
        message=message,
    )
    return _leading_to(grant.redirect_uri, html)


def _leading_to(uri: str, html: str) -> Response:
    """A page whose form may lead on to an app: browsers apply form-action to where its answer leads, too."""
    answer = make_response(html)
    answer.headers.update(HEADERS)
    target = urlsplit(uri)
    if target.scheme:
        source = f"{target.scheme}://{target.netloc}" if target.netloc else f"{target.scheme}:"
        answer.headers["Content-Security-Policy"] = HEADERS["Content-Security-Policy"].replace(
            "form-action 'self'", f"form-action 'self' {source}"
        )
    return answer


def _described(text: str) -> str:
    """A scope in words that a patient can understand."""
    known = texts(language())
    plain = launch_scope(text)[0]
    if f"scope.{plain}" in known:
        return known[f"scope.{plain}"]
    scope: Scope = parse_scopes(text)[0][0]
    verbs = ("、" if language() == "zh" else ", ").join(say(f"verb.{verb}") for verb in scope.verbs)
    words = say(f"scope.{scope.level}", type=known.get(f"type.{scope.resource}", scope.resource), verbs=verbs)
    return words + (say("scope.only", query=scope.query) if scope.query else "")


def _choices(caller: Caller, picks: str, wanted: str) -> list[dict[str, str]]:
    """Patients or studies to choose from, within what the person may see itself."""
    if not picks or not caller.may(Action("Patient", "s")) or not caller.may(SEARCH_IMAGES):
        return []
    count = ("_count", str(SHOWN))
    find, ways, own = _found, ["name", "identifier"], [count]
    if picks == "study":
        find, ways = _studies, ["patient.name", "patient.identifier", "identifier"]
        own = [("_sort", "-started"), count]
    if not wanted:
        return find(caller, own)
    return next((found for way in ways if (found := find(caller, [(way, wanted), *own]))), [])


def _studies(caller: Caller, arguments: list[tuple[str, str]]) -> list[dict[str, str]]:
    """Studies with the names of their patients."""
    asked = [*arguments, ("_include", "ImagingStudy:patient")]
    try:
        result = search(room(Records), caller.through(Door.PORTAL), parse_search("ImagingStudy", asked))
    except CloudfilmError:
        return []
    patients = {each.logical_id: _shown(json.loads(each.body)) for each in result.included}
    return [_shown_study(json.loads(found.body), patients) for found in result.matches]


def _shown_study(study: dict[str, Any], patients: dict[str, dict[str, str]]) -> dict[str, str]:
    patient = study.get("subject", {}).get("reference", "").removeprefix("Patient/")
    modalities = "/".join(each.get("code", "") for each in study.get("modality", ()))
    more = (study.get("started", "")[:10], modalities, study.get("description", ""))
    return {
        "id": str(study.get("id", "")),
        "patient": patient,
        "name": patients.get(patient, {}).get("name", ""),
        "more": " · ".join(each for each in more if each),
    }


def _reachable(caller: Caller, ids: list[str]) -> list[dict[str, str]]:
    return _found(caller, [("_id", each) for each in ids if each]) if any(ids) else []


def _found(caller: Caller, arguments: list[tuple[str, str]]) -> list[dict[str, str]]:
    try:
        result = search(room(Records), caller.through(Door.PORTAL), parse_search("Patient", arguments))
    except CloudfilmError:
        return []
    return [_shown(json.loads(found.body)) for found in result.matches]


def _shown(patient: dict[str, Any]) -> dict[str, str]:
    names = patient.get("name") or [{}]
    name = names[0].get("text") or " ".join([*names[0].get("given", ()), names[0].get("family", "")])
    identifiers = patient.get("identifier") or [{}]
    return {
        "id": str(patient.get("id", "")),
        "patient": str(patient.get("id", "")),
        "name": str(name).strip(),
        "more": f"{patient.get('birthDate', '')} {identifiers[0].get('value', '')}".strip(),
    }


def _passed_on() -> dict[str, str]:
    return {name: request.values[name] for name in PASSED_ON if name in request.values}


def _back(redirect_uri: str, **parameters: str) -> AnyResponse:
    joiner = "&" if urlsplit(redirect_uri).query else "?"
    values = {**parameters, "state": request.values.get("state", ""), "iss": issuer()}
    return redirect(f"{redirect_uri}{joiner}{urlencode(values)}", 303)


def _refused(refusal: OAuth2Error) -> AnyResponse:
    """Back to the app when its redirect URI is right, else a page."""
    if refusal.redirect_uri:
        return _back(
            refusal.redirect_uri, error=refusal.error, error_description=refusal.get_error_description() or ""
        )
    reason = refusal.get_error_description() or refusal.error
    html = render_template(
        "message.html", say=say, language=language(), title=say("authorize.title"),
        message=say("authorize.broken", reason=told(reason)),
    )  # fmt: skip
    answer = make_response(html, 400)
    answer.headers.update(HEADERS)
    return answer
