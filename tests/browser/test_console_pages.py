"""The pages of those who run a site and of apps' users in Chromium: each on a phone and a desktop, in Chinese
and English, looked at by axe-core, nothing wider than the screen, no text left untranslated.

CLOUDFILM_SCREENSHOTS names a folder for pictures of them.
"""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page

from access.accounts import create_account
from access.caller import operator
from access.node_register import NodeRow, put_node
from access.oauth.clients import register_client
from access.rules import RULES
from access.second_factor import set_phone
from access.site_documents import put_document
from tests.browser.film import PASSWORD, Site, check

REDIRECT = "https://app.example.org/callback"
ADMIN, TWICE = "admin.pages", "twice.pages"
PICTURES = os.environ.get("CLOUDFILM_SCREENSHOTS", "")
PAGES = {
    "accounts": "/admin/accounts",
    "account": f"/admin/accounts/{TWICE}",
    "documents": "/admin/documents",
    "policies": "/admin/documents/rules",
    "clients": "/admin/clients",
    "nodes": "/admin/nodes",
    "node": "/admin/nodes?edit=CT1",
    "audit": "/admin/audit",
    "explain": f"/admin/explain?login={TWICE}&action=Account.r",
    "glass": "/admin/glass",
    "own-glass": "/my/glass",
    "devices": "/my/access",
    "factors": "/my/factor",
    "password": "/my/password",
    "own-log": "/my/log",
    "order": "/my/order",
    "logout": "/oauth/logout",
    "apps": "/my/apps",
    "open": "/my/apps?study={study}",
}
KEY = re.compile(r"\b[a-z]+(?:-[a-z]+)*\.[a-z]+(?:-[a-z]+)+\b")  # a name of a text, where its text should be


@pytest.fixture(scope="module")
def client_id(site: Site) -> str:
    """An app, and accounts of an operator and of a radiologist with a phone."""
    with site.rooms.database.transaction() as session:
        for login, role in ((ADMIN, "operator"), (TWICE, "radiologist")):
            account_id = create_account(
                site.rooms.access, session, operator(), login, PASSWORD, role, institution="MAIN"
            )
    set_phone(site.rooms.access, operator(), account_id, "+8613800138000")
    node = NodeRow("CT1", "10.1.2.3", addresses="10.1.0.0/16", permissions="store", institution="MAIN")
    put_node(site.rooms.access, operator(), node)
    rule = {
        "id": "night",
        "reason": "夜间院外不得下载。",
        "when": {"roles": ["physician"]},
        "deny": ["Download.r"],
    }
    put_document(site.rooms.access, operator(), RULES, json.dumps({"rules": [rule]}), "夜间")
    metadata = {
        "client_name": "Viewer of studies", "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"], "redirect_uris": [REDIRECT],
        "launch_url": "https://app.example.org/launch",
    }  # fmt: skip
    return str(register_client(site.rooms.access, operator(), metadata)["client_id"])


def look(page: Page, name: str, size: str, language: str) -> list[str]:
    """What is wrong with a page."""
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}-{size}-{language[:2]}.png", full_page=True)
    names = KEY.findall(page.inner_text("body").replace(ADMIN, "").replace(TWICE, ""))
    try:
        check(page)
    except AssertionError as fault:
        names.append(str(fault).split("assert ")[0][:1500])
    return [f"{name}: {each}" for each in names]


def begin(site: Site, page: Page, login: str) -> None:
    page.goto(f"{site.server.url}/sign-in")
    page.locator("#sign-in input[name=login]").fill(login)
    page.locator("#sign-in input[name=password]").fill(PASSWORD)
    page.locator("#sign-in button").first.click()
    page.wait_for_load_state()


def consent(site: Site, client_id: str, scope: str) -> str:
    """The address of the consent screen."""
    asked: dict[str, Any] = {
        "response_type": "code", "client_id": client_id, "redirect_uri": REDIRECT, "scope": scope,
        "state": "s", "aud": f"{site.server.url}/fhir",
        "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        "code_challenge_method": "S256",
    }  # fmt: skip
    return f"{site.server.url}/oauth/authorize?{urlencode(asked)}"


@pytest.mark.parametrize("language", ["zh-CN", "en-US"])
@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_pages_of_accounts_apps_and_rules(
    site: Site, opened: Callable[..., Page], client_id: str, size: str, language: str
) -> None:
    page, faults = opened(size, language), []
    page.set_default_timeout(60000)
    page.goto(f"{site.server.url}/sign-in")
    faults += look(page, "sign-in", size, language)
    begin(site, page, TWICE)
    page.locator("input[name=code]").wait_for()
    faults += look(page, "second-factor", size, language)
    page.context.clear_cookies()
    begin(site, page, ADMIN)
    page.wait_for_url(re.compile(r"^https?://[^/]+/(?!sign-in)"))  # signed in, and led on

    for name, path in PAGES.items():
        answer = page.goto(site.server.url + path.format(study=site.study))
        assert answer is not None
        if answer.status == 200 and "/sign-in" not in page.url:
            faults += look(page, name, size, language)
        else:
            faults.append(f"{name}: {answer.status} {page.url}")
    if size == "phone":
        page.goto(f"{site.server.url}/admin/audit")
        page.locator("summary").click()
        page.locator("details nav a").last.scroll_into_view_if_needed()
        assert page.locator("details nav a").count() == page.locator("nav.wide a").count()
        faults += look(page, "menu", size, language)
    for name, scope in (
        ("consent-patient", "openid fhirUser offline_access launch/patient patient/*.rs"),
        ("consent-study", "openid launch/imagingstudy patient/ImagingStudy.rs?modality=CT patient/Patient.r"),
    ):
        page.goto(consent(site, client_id, scope))
        faults += look(page, name, size, language)
    assert faults == []
