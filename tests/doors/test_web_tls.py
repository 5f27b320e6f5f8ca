"""The web server's own TLS, over the network: versions, suites, certificates, and signing in by one."""

import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from access.certificate import speaks_tls, web_certificate
from kernel.errors import InvalidSetting
from kernel.settings import WebSettings
from tests.live import LiveServer, live_server_in
from tests.x509_authority import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the certificates of people."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[LiveServer]:
    """A server that speaks TLS with a certificate that it made, and knows the authority."""
    folder = tmp_path_factory.mktemp("tls")
    tls = {
        "CLOUDFILM_WEB__TLS": "on",
        "CLOUDFILM_WEB__TLS_CLIENT_CA": str(authority.certificate),
        "CLOUDFILM_ACCESS__REVOCATION_LISTS": str(authority.revocation_list()),
    }
    with live_server_in(folder, **tls) as server:
        yield server


def own(server: LiveServer) -> Path:
    return server.data_dir / "var" / "tls" / "certificate.pem"


def context_of(server: LiveServer) -> ssl.SSLContext:
    trusting = ssl.create_default_context(cafile=str(own(server)))
    trusting.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    trusting.set_ciphers("ALL:@SECLEVEL=0")
    return trusting


def shaken(server: LiveServer, context: ssl.SSLContext) -> str:
    """The suite that a handshake ends with."""
    with (
        socket.create_connection(("127.0.0.1", server.http_port), 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        cipher = connection.cipher()
        assert cipher is not None
        return cipher[0]


def test_it_serves_under_the_certificate_that_it_made_and_says_so_for_a_year(secured: LiveServer) -> None:
    answer = requests.get(f"{secured.url}/sign-in", verify=str(own(secured)), timeout=30)

    assert answer.status_code == 200
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")
    assert "https://" in secured.output


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_versions_are_refused(secured: LiveServer, version: ssl.TLSVersion) -> None:
    context = context_of(secured)
    context.maximum_version = version

    with pytest.raises((ssl.SSLError, OSError)):
        shaken(secured, context)


@pytest.mark.parametrize("suites", ["AES128-GCM-SHA256", "AES256-SHA", "ECDHE-ECDSA-AES128-SHA", "aNULL"])
def test_suites_without_forward_secrecy_or_authenticated_encryption_are_refused(
    secured: LiveServer, suites: str
) -> None:
    context = context_of(secured)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{suites}:@SECLEVEL=0")

    with pytest.raises((ssl.SSLError, OSError)):
        shaken(secured, context)


def test_tls_1_2_and_1_3_are_served(secured: LiveServer) -> None:
    older = context_of(secured)
    older.maximum_version = ssl.TLSVersion.TLSv1_2

    assert shaken(secured, older).startswith("ECDHE-")
    assert shaken(secured, context_of(secured)).startswith("TLS_")


def test_plain_http_is_not_answered(secured: LiveServer) -> None:
    with pytest.raises(requests.RequestException):
        requests.get(f"http://127.0.0.1:{secured.http_port}/sign-in", timeout=10)


def curl(server: LiveServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            "curl", "--silent", "--show-error", "--include", "--noproxy", "*", "--cacert", str(own(server)),
            "--header", f"Origin: {server.url}", "--request", "POST", *arguments,
            f"{server.url}/sign-in/certificate",
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_curl_signs_in_with_a_client_certificate(secured: LiveServer, authority: Authority) -> None:
    certificate, key = authority.issue("doctor")
    password = "Correct-Horse-7"
    secured.command("account", "add", "doctor", "--role", "radiologist", "--password", password)
    secured.command("account", "certificate", "doctor", str(certificate))

    said = curl(secured, "--cert", str(certificate), "--key", str(key)).stdout

    assert " 303 " in said.splitlines()[0]
    cookie = next(
        line for line in said.splitlines() if line.lower().startswith("set-cookie: cloudfilm_session=")
    )
    assert {"secure", "httponly", "samesite=lax"} <= set(cookie.lower().replace(" ", "").split(";"))


def test_a_certificate_of_no_account_or_of_another_authority_signs_nobody_in(
    secured: LiveServer, authority: Authority, tmp_path: Path
) -> None:
    unknown, key = authority.issue("stranger")
    assert " 401 " in curl(secured, "--cert", str(unknown), "--key", str(key)).stdout.splitlines()[0]
    assert " 401 " in curl(secured).stdout.splitlines()[0]

    foreign, foreign_key = Authority(tmp_path).issue("doctor")
    refused = curl(secured, "--cert", str(foreign), "--key", str(foreign_key))
    assert not refused.stdout  # the handshake itself fails


def test_a_revoked_certificate_is_refused_by_the_servers_own_tls(
    secured: LiveServer, authority: Authority
) -> None:
    certificate, key = authority.issue("leaver")
    secured.command("account", "add", "leaver", "--role", "radiologist", "--password", "Correct-Horse-7")
    secured.command("account", "certificate", "leaver", str(certificate))
    shown = ("--cert", str(certificate), "--key", str(key))
    assert " 303 " in curl(secured, *shown).stdout.splitlines()[0]

    authority.revocation_list(certificate)

    assert " 401 " in curl(secured, *shown).stdout.splitlines()[0]
    asked = requests.get(f"{secured.url}/metrics", verify=str(own(secured)), timeout=30).text
    assert "cloudfilm_revocation_list_complaints 0.0" in asked
    assert 'cloudfilm_revocation_list_ends_timestamp_seconds{issuer="CN=Authority"}' in asked


def test_a_site_replaces_the_certificate(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("localhost")
    web = WebSettings(tls_certificate=str(certificate), tls_key=str(key))

    assert web_certificate(web, tmp_path).certificate == certificate
    with pytest.raises(InvalidSetting):
        web_certificate(replace(web, tls_key=str(tmp_path / "none")), tmp_path)


@pytest.mark.parametrize(
    ("web", "expected"),
    [
        (WebSettings(), False),
        (WebSettings(host="::1"), False),
        (WebSettings(host="0.0.0.0"), True),
        (WebSettings(host="10.1.2.3"), True),
        (WebSettings(host="0.0.0.0", trusted_proxies=("10.0.0.1",)), False),
        (WebSettings(host="0.0.0.0", tls="off"), False),
        (WebSettings(tls="on"), True),
    ],
)
def test_what_other_machines_reach_is_encrypted_or_behind_a_proxy(web: WebSettings, expected: bool) -> None:
    assert speaks_tls(web) is expected
