"""What apps read before they ask: SMART configuration, OpenID configuration, user-access brands.

Standards: SMART App Launch 2.2 sections 5 (conformance) and 8 (brands), OpenID Connect Discovery 1.0,
RFC 8414.
"""

import hashlib
import json
from typing import Any

from sqlalchemy import select

from access.model import Institution
from access.oauth.clients import GRANT_TYPES, OTHER_SCOPES
from access.tokens import Access

CAPABILITIES = (
    "launch-ehr", "launch-standalone", "authorize-post", "client-public", "client-confidential-symmetric",
    "client-confidential-asymmetric", "sso-openid-connect", "context-banner", "context-style",
    "context-ehr-patient", "context-ehr-encounter", "context-standalone-patient", "permission-offline",
    "permission-online", "permission-patient", "permission-user", "permission-v1", "permission-v2",
    "smart-imaging-access",
)  # fmt: skip
SMART_STYLE_PATH = "/oauth/smart-style.1.json"  # the number goes up with the content, which clients keep
SMART_STYLE = {  # SMART 2.2, 3.1.4; as portal/assets/page.css has it
    "color_background": "#eef2f5",
    "color_error": "#b3261e",
    "color_highlight": "#0b6fa4",
    "color_modal_backdrop": "",
    "color_success": "#1f7a4d",
    "color_text": "#14212b",
    "dim_border_radius": "6px",
    "dim_font_size": "16px",
    "dim_spacing_size": "16px",
    "font_family_body": "system-ui, 'PingFang SC', 'Microsoft YaHei', sans-serif",
    "font_family_heading": "system-ui, 'PingFang SC', 'Microsoft YaHei', sans-serif",
}
CLIENT_AUTH_METHODS = ("client_secret_basic", "client_secret_post", "private_key_jwt")
SCOPES = (
    *sorted(OTHER_SCOPES),
    *(
        f"{level}/{resource}.{verbs}"
        for level in ("patient", "user")
        for resource, verbs in (("*", "rs"), ("ImagingStudy", "rs"), ("DiagnosticReport", "rs"))
    ),
    "system/*.rs",
    "system/*.cruds",
)


def endpoints(issuer: str) -> dict[str, str]:
    """Where the authorization server's parts are."""
    return {
        "authorization_endpoint": f"{issuer}/oauth/authorize",
        "token_endpoint": f"{issuer}/oauth/token",
        "introspection_endpoint": f"{issuer}/oauth/introspect",
        "revocation_endpoint": f"{issuer}/oauth/revoke",
        "registration_endpoint": f"{issuer}/oauth/register",
        "management_endpoint": f"{issuer}/my/access",
        "jwks_uri": f"{issuer}/oauth/jwks.json",
    }


def oauth_uris(issuer: str) -> dict[str, str]:
    """The same for the old extension in the CapabilityStatement, for clients that know only that."""
    names = {
        "authorize": "authorization_endpoint", "token": "token_endpoint", "register": "registration_endpoint",
        "manage": "management_endpoint", "introspect": "introspection_endpoint",
        "revoke": "revocation_endpoint",
    }  # fmt: skip
    return {old: endpoints(issuer)[new] for old, new in names.items()}


def smart_configuration(issuer: str, fhir_base: str) -> dict[str, Any]:
    """`.well-known/smart-configuration` of the FHIR base."""
    return {
        "issuer": issuer,
        **endpoints(issuer),
        "grant_types_supported": list(GRANT_TYPES),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": list(CLIENT_AUTH_METHODS),
        "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
        "scopes_supported": list(SCOPES),
        "capabilities": list(CAPABILITIES),
        "user_access_brand_bundle": f"{fhir_base}/.well-known/user-access-brands.json",
        "user_access_brand_identifier": {"system": "urn:ietf:rfc:3986", "value": issuer},
        "authorization_response_iss_parameter_supported": True,
    }


def openid_configuration(issuer: str) -> dict[str, Any]:
    """`/.well-known/openid-configuration`; also good as RFC 8414 metadata."""
    return {
        "issuer": issuer,
        **endpoints(issuer),
        "userinfo_endpoint": f"{issuer}/oauth/userinfo",
        "end_session_endpoint": f"{issuer}/oauth/logout",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "grant_types_supported": list(GRANT_TYPES),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": [*CLIENT_AUTH_METHODS, "none"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": list(SCOPES),
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "fhirUser", "sid"],
        "authorization_response_iss_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }


def brands(access: Access, issuer: str, fhir_base: str) -> tuple[str, str]:
    """The user-access brands Bundle as JSON, and its weak ETag: each institution a brand, one the primary."""
    with access.database.snapshot() as session:
        rows = session.scalars(select(Institution).order_by(Institution.code)).all()
    named = {row.code: row.name or row.code for row in rows}
    primary = access.settings.institution
    named.setdefault(primary, primary)
    endpoint: dict[str, Any] = {
        "resourceType": "Endpoint",
        "id": "fhir",
        "status": "active",
        "connectionType": {
            "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": "hl7-fhir-rest",
        },
        "name": "FHIR R4",
        "payloadType": [{"coding": [{"code": "any"}]}],
        "address": fhir_base,
        "extension": [
            {"url": "http://hl7.org/fhir/StructureDefinition/endpoint-fhir-version", "valueCode": "4.0.1"}
        ],
    }
    organizations: list[dict[str, Any]] = [
        {
            "resourceType": "Organization",
            "id": f"brand-{number}",
            "active": True,
            "name": name,
            "identifier": [
                {
                    "system": "urn:ietf:rfc:3986",
                    "value": issuer if code == primary else f"{issuer}/institutions/{code}",
                }
            ],
            "telecom": [{"system": "url", "value": issuer}],
            "endpoint": [{"reference": "Endpoint/fhir"}],
        }
        for number, (code, name) in enumerate(sorted(named.items()), 1)
    ]
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"fullUrl": f"{fhir_base}/{each['resourceType']}/{each['id']}", "resource": each}
            for each in (*organizations, endpoint)
        ],
    }
    text = json.dumps(bundle, ensure_ascii=False)
    return text, hashlib.sha256(text.encode()).hexdigest()[:16]
