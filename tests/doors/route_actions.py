"""What each route of the web application needs: the table that the matrix test goes by.

A route that is not here fails the suite. Write the action that its room requires, or why it is open to
everyone.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from archive.non_patient_keys import CATEGORY_BY_NAME

OWN = "a page: of who is signed in, about its own only"
CREDENTIALS = "checks credentials of its own"


@dataclass(frozen=True, slots=True)
class Needs:
    """An action (`ImagingStudy.r`; `{type}` is the resource type of the path), or why there is none.

    A page asks for a session of a browser; several actions, by spaces: any of them opens it.
    """

    action: str = ""
    open_because: str = ""
    is_page: bool = False


DECLARED = {
    # images
    "GET /dicomweb/instances": Needs("ImagingStudy.s"),
    "GET /dicomweb/series": Needs("ImagingStudy.s"),
    "GET /dicomweb/studies": Needs("ImagingStudy.s"),
    "POST /dicomweb/studies*": Needs("ImagingStudy.c"),
    "GET /dicomweb/studies/<study>/series": Needs("ImagingStudy.s"),
    "GET /dicomweb/studies/<study>/instances": Needs("ImagingStudy.s"),
    "GET /dicomweb/studies/<study>/series/<series>/instances": Needs("ImagingStudy.s"),
    "GET /dicomweb/studies/<study>*": Needs("ImagingStudy.r"),
    "DELETE /dicomweb/studies/<study>*": Needs("ImagingStudy.d"),
    "POST /dicomweb/studies/<study>*/reject/<reason>": Needs("ImagingStudy.d"),
    **{
        f"{method} /dicomweb/{category}{rest}": Needs(f"ImagingStudy.{verb}")
        for category in CATEGORY_BY_NAME
        for method, rest, verb in (
            ("GET", "", "s"),
            ("GET", "/<uid>*", "r"),
            ("POST", "*", "c"),
            ("DELETE", "/<uid>", "d"),
        )
    },
    "* /dicomweb/removals*": Needs("ImagingStudy.d"),
    "POST /dicomweb/signed-urls": Needs("ImagingStudy.r"),
    "GET /dicomweb/wado": Needs("ImagingStudy.r"),
    "GET /dicomweb/capabilities": Needs(open_because="what the service can do (PS3.18 8.9)"),
    # workitems
    "GET /dicomweb/workitems": Needs("Workitem.s"),
    "POST /dicomweb/workitems": Needs("Workitem.c"),
    "GET /dicomweb/workitems/<uid>": Needs("Workitem.r"),
    "POST /dicomweb/workitems/<uid>": Needs("Workitem.u"),
    "PUT /dicomweb/workitems/<uid>/state*": Needs("Workitem.u"),
    "POST /dicomweb/workitems/<uid>/cancelrequest*": Needs("Workitem.u"),
    "* /dicomweb/workitems/<uid>/subscribers/*": Needs("Workitem.r"),
    "GET /dicomweb/subscribers/<ae_title>": Needs(open_because="says where the WebSocket is, no data"),
    # clinical documents
    "GET /fhir/metadata": Needs(open_because="what the server can do (R4 3.1.0.12)"),
    "GET /fhir/.well-known/*": Needs(open_because="discovery (SMART 2.2, 5.3)"),
    "GET /fhir/": Needs("{type}.s"),
    "POST /fhir/_search": Needs("{type}.s"),
    "POST /fhir/": Needs("{type}.c"),
    "GET /fhir/_history": Needs("{type}.s"),
    "GET /fhir/<compartment>/<logical_id>/<resource_type>": Needs("{type}.s"),
    "POST /fhir/<compartment>/<logical_id>/<resource_type>/_search": Needs("{type}.s"),
    "PUT /fhir/<resource_type>": Needs("{type}.u"),
    "PATCH /fhir/<resource_type>": Needs("{type}.u"),
    "DELETE /fhir/<resource_type>": Needs("{type}.d"),
    "GET /fhir/<resource_type>/_history": Needs("{type}.s"),
    "GET /fhir/<resource_type>": Needs("{type}.s"),
    "POST /fhir/<resource_type>": Needs("{type}.c"),
    "GET /fhir/<resource_type>/_search": Needs("{type}.s"),
    "POST /fhir/<resource_type>/_search": Needs("{type}.s"),
    "GET /fhir/<resource_type>/<logical_id>*": Needs("{type}.r"),
    "PUT /fhir/<resource_type>/<logical_id>": Needs("{type}.u"),
    "PATCH /fhir/<resource_type>/<logical_id>": Needs("{type}.u"),
    "DELETE /fhir/<resource_type>/<logical_id>": Needs("{type}.d"),
    "* /fhir/Patient/$*": Needs("Patient.s"),
    "POST /fhir/$process-message": Needs("Patient.u"),
    "POST /fhir/ImagingStudy/$share": Needs("Share.c"),
    "* /fhir/CodeSystem/*$*": Needs("CodeSystem.r"),
    "* /fhir/ValueSet/*$*": Needs("ValueSet.r"),
    "* /fhir/ConceptMap/*$*": Needs("ConceptMap.r"),
    "POST /fhir/<resource_type>/$validate": Needs("{type}.r"),
    "* /fhir/<resource_type>/<logical_id>/$validate": Needs("{type}.r"),
    "* /fhir/<resource_type>/<logical_id>/$everything": Needs("Patient.r"),
    "* /fhir/$graphql": Needs("{type}.r"),
    "* /fhir/<resource_type>/<logical_id>/$graphql": Needs("{type}.r"),
    "GET /fhir/$meta": Needs("{type}.s"),
    "GET /fhir/<resource_type>/$meta": Needs("{type}.s"),
    "GET /fhir/<resource_type>/<logical_id>*$meta": Needs("{type}.r"),
    "POST /fhir/<resource_type>/<logical_id>/$meta-*": Needs("{type}.u"),
    "* /fhir/Composition/<logical_id>/$document": Needs("Composition.r"),
    "* /fhir/DocumentReference/$docref": Needs("DocumentReference.s"),
    "* /fhir/Observation/$lastn": Needs("Observation.s"),
    "* /fhir/Subscription/<logical_id>/$*": Needs("Subscription.r"),
    "* /fhir/$export": Needs("Patient.r"),
    "* /fhir/Patient/$export": Needs("Patient.r"),
    "* /fhir/Group/<logical_id>/$export": Needs("Group.r"),
    "POST /fhir/$import": Needs("Patient.c"),
    "GET /fhir/$bulk-*": Needs(open_because=CREDENTIALS),
    "DELETE /fhir/$bulk-status/<job_id>": Needs(open_because=CREDENTIALS),
    "POST /fhir/$closure": Needs("ConceptMap.r"),
    # messages
    "GET /hl7/*": Needs(open_because="describes the service, no data"),
    "POST /hl7*": Needs("Message.c"),
    # signing in, apps
    "GET /.well-known/*": Needs(open_because="discovery"),
    "GET /oauth/jwks.json": Needs(open_because="public keys"),
    "GET /oauth/smart-style.1.json": Needs(open_because="colours and sizes"),
    "* /oauth/*": Needs(open_because=CREDENTIALS),
    "POST /apps/<client_id>/launch": Needs(open_because=CREDENTIALS),
    "* /sign-in*": Needs(open_because=CREDENTIALS),
    "POST /ws-ticket": Needs(open_because="a ticket for whoever is signed in, for itself"),
    "POST /set-up": Needs(open_because=CREDENTIALS),
    "POST /sign-out": Needs(open_because="ends what the cookie names, if anything"),
    "GET /": Needs(open_because="leads to where the work of who is signed in begins"),
    # sharing
    "POST /share/begin": Needs(open_because=CREDENTIALS),
    "POST /share/code": Needs(open_because=CREDENTIALS),
    "POST /share/enter": Needs(open_because=CREDENTIALS),
    "GET /share": Needs(open_because="asks a visitor who it is"),
    "GET /share/expired": Needs(open_because="says that a link has expired"),
    "GET /patient/sign-in": Needs(open_because=CREDENTIALS),
    "POST /patient/sign-in/*": Needs(open_because=CREDENTIALS),
    "POST /patient/sign-out": Needs(open_because="ends what the cookie names, if anything"),
    "GET /shares": Needs("Share.s"),
    "POST /shares": Needs("Share.c"),
    "DELETE /shares/<grant_id>": Needs("Share.d"),
    "GET /shares/<grant_id>/accesses": Needs("Share.s"),
    "POST /gateways/<kind>/reports": Needs(open_because="names a message by its provider's secret number"),
    "* /shl/*": Needs(open_because="the link's secret and passcode open it, for encrypted files"),
    "GET /wechat/*": Needs(open_because=CREDENTIALS),
    "GET /MP_verify_<name>.txt": Needs(open_because="proves the domain to WeChat"),
    # administration by programs
    "GET /api/openapi.json": Needs(open_because="describes the service, no data"),
    "GET /api/accounts": Needs("Account.s"),
    "POST /api/accounts": Needs("Account.c"),
    "PATCH /api/accounts/<login>": Needs("Account.u"),
    "GET /api/nodes": Needs("Node.s"),
    "PUT /api/nodes/<ae_title>": Needs("Node.c"),
    "DELETE /api/nodes/<ae_title>": Needs("Node.d"),
    "GET /api/clients": Needs("Client.s"),
    "POST /api/clients": Needs("Client.c"),
    "DELETE /api/clients/<client_id>": Needs("Client.d"),
    "GET /api/documents": Needs(open_because="to who is signed in: names only of what they may read"),
    "GET /api/documents/<name>/versions": Needs("Policy.r"),
    "POST /api/documents/<name>/versions": Needs("Policy.u"),
    "GET /api/audit": Needs("AuditTrail.s"),
    "DELETE /api/my/tokens/<token_id>": Needs(open_because="to who is signed in: their own only"),
    # what pages are made of, and how the server is
    "GET /assets/*": Needs(open_because="styles and scripts"),
    "GET /ui/*": Needs(open_because="scripts of the pages"),
    "GET /ohif/*": Needs(open_because="the viewer's program; its data has its own routes"),
    "GET /conformance/dicom": Needs(open_because="what the server can do (PS3.2)"),
    "GET /healthz": Needs(open_because="whether it is alive, no data"),
    "GET /readyz": Needs(open_because="whether it is ready, no data"),
    "GET /metrics": Needs(open_because="counts, kept inside by the proxy"),
}


PAGES = {  # each by its own name: a page that is not here fails the suite, as any other route
    "GET /admin/accounts": "Account.s", "POST /admin/accounts": "Account.c",
    "* /admin/accounts/<login>": "Account.s",
    "GET /admin/audit": "AuditTrail.s", "GET /admin/audit/export": "AuditTrail.s",
    "GET /admin/clients": "Client.s", "POST /admin/clients": "Client.c",
    "GET /admin/documents": "Policy.r Setting.r",
    "GET /admin/documents/<name>": "Policy.r Setting.r",
    "POST /admin/documents/<name>": "Policy.u Setting.u",
    "GET /admin/explain": "Policy.r",
    "GET /admin/gateways": "Setting.r", "POST /admin/gateways": "Setting.u",
    "GET /admin/glass": "Policy.r", "POST /admin/glass": "Policy.u",
    "GET /admin/nodes": "Node.s", "POST /admin/nodes": "Node.c",
    "GET /admin/sharing": "Policy.r", "POST /admin/sharing": "Policy.u",
    "GET /my/apps": "ImagingStudy.s",
    "* /my/glass": "Glass.c",
    "* /review/persons": "Patient.u", "* /review/images": "ImagingStudy.u",
    "GET /review": "",
    "* /my/access": "", "* /my/factor": "", "POST /my/factor/key": "", "POST /my/factor/key/options": "",
    "GET /my/log": "", "* /my/order": "", "* /my/password": "",
    "* /staff/shares": "Share.s", "* /staff/labels": "Share.s",
    "GET /staff/studies/<study>/completeness": "ImagingStudy.r",
    "GET /staff/studies/<study>/completeness.csv": "ImagingStudy.r",
    "* /patient/account": "", "GET /patient/messages": "", "GET /patient/messages.json": "",
    "POST /patient/push": "", "* /patient/records": "",
    **{  # of a patient who is signed in, and of a visitor of a share
        f"{method} {start}{rest}": ""
        for start in ("/patient", "/share/<uuid:grant>")
        for method, rest in (
            ("GET", ""), ("*", "/family"), ("POST", "/health-link"), ("POST", "/leave"),
            ("GET", "/ohif/<path:name>"),
            ("GET", "/reports/<report_id>"), ("GET", "/reports/<report_id>.pdf"),
            ("GET", "/reports/<report_id>/pictures/<int:number>"), ("GET", "/seen"), ("*", "/share"),
            ("*", "/shares"), ("GET", "/studies/<study>"), ("GET", "/studies/<study>/images"),
            ("GET", "/studies/<study>/overview/<series>/<int:sheet>"),
            ("GET", "/studies/<study>/preview/<series>/<instance>/<int:frame>"),
            ("GET", "/studies/<study>/thumbnail"), ("GET", "/watermark.svg"),
        )
    },
}  # fmt: skip
DECLARED |= {
    f"{one} {rule}": Needs(action, "" if action else OWN, is_page=True)
    for name, action in PAGES.items()
    for method, rule in (name.split(" ", 1),)
    for one in (("GET", "POST") if method == "*" else (method,))
}


def needs_of(method: str, rule: str) -> Needs | None:
    """What is declared for a route: an exact row, else the longest pattern that fits it."""
    name = f"{method} {rule}"
    if name in DECLARED:
        return DECLARED[name]
    fitting = [pattern for pattern in DECLARED if "*" in pattern and _fits(name, pattern)]
    return DECLARED[max(fitting, key=len)] if fitting else None


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern.replace("[", "[[]"))
