"""No door and no room speaks to another machine by ways of its own: what goes out goes through few modules,
each of which names whose addresses it goes to, and TLS is made in one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "access", "archive", "cloudfilm", "conformance", "dicomweb", "dimse", "edge", "fhir_server",
    "hl7_listener", "kernel", "messaging", "mpi", "portal", "records", "terminology",
)  # fmt: skip
WAYS_OUT = frozenset(
    {
        "http.client", "urllib.request", "requests", "httpx", "urllib3", "aiohttp", "ftplib", "smtplib",
        "telnetlib", "paramiko", "boto3", "obstore", "obstore.store", "socket.create_connection",
        "asyncio.open_connection", "websockets.connect", "websockets.asyncio.client",
        "websockets.sync.client", "subprocess", "os.system", "os.popen", "asyncio.create_subprocess_exec",
        "access.oauth.fetch.PinnedHttps",
    }
)  # fmt: skip
GUARDED = {  # addresses that others name: resolved once, public only, no redirect
    "access/oauth/fetch.py": "key sets of clients, metadata of hospitals' providers",
    "access/outbound_http.py": "subscriptions, bulk imports",
    "messaging/web_push.py": "the push services that browsers name; by `public_address` and `PinnedHttps`",
}
GUARD = ("access.oauth.fetch", "access.outbound_http")
GUARD_USERS = {  # who has the guard go to an address of others -> what shows that it does not go inside
    "access/federation.py": "test_a_feature_with_an_inside_address_connects_to_nothing",
    "access/oauth/assertions.py": "test_a_feature_with_an_inside_address_connects_to_nothing",
    "fhir_server/bulk.py": "test_an_import_does_not_fetch_from_our_own_network",
    "fhir_server/notifications.py": "test_our_own_network_is_not_called",
    "messaging/http.py": "test_no_gateway_is_where_a_cloud_tells_its_credentials",
    "messaging/web_push.py": "test_a_feature_with_an_inside_address_connects_to_nothing",
}
HOLDING_THE_GUARD = {  # these make it or pass it on, and call nobody
    "access/outbound_http.py", "access/oauth/server.py", "access/oauth/endpoints.py", "portal/federation.py",
    "fhir_server/operations/bulk.py",
}  # fmt: skip
OWN = {  # addresses that the site's or the host's own settings name
    "access/trail.py": "the audit collector of the settings",
    "archive/blobs/s3.py": "the object store of the settings",
    "dimse/peers.py": "nodes of the register",
    "hl7_listener/outbound.py": "nodes of the register",
    "messaging/generic.py": "the site's mail server",
    "messaging/http.py": "the site's gateways, its webhook among them; no redirect is followed",
    "archive/video.py": "no address: runs ffmpeg on a file",
    "cloudfilm/backup.py": "no address: runs pg_dump and pg_restore with the database's URL of the settings",
    "portal/ohif_dist.py": "no address: builds the viewer when it is installed",
    "cloudfilm/commands/hl7.py": "the address that an operator types",
    "conformance/dicomweb/report.py": "the server that an operator examines",
    "conformance/dicomweb/other_services.py": "the server that an operator examines",
    "conformance/dicomweb/rows.py": "the server that an operator examines",
    "conformance/dicomweb/target.py": "the server that an operator examines",
    "conformance/fhir/report.py": "the server that an operator examines",
    "conformance/fhir/rows.py": "the server that an operator examines",
}
TLS = "kernel/tls.py"


def sources() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            yield str(file.relative_to(ROOT)), ast.parse(file.read_text())


def names_used(module: ast.Module) -> set[str]:
    """What is imported, and every dotted name: `http.client.HTTPConnection`."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
    return found


def test_what_goes_out_goes_through_the_modules_that_are_named_here() -> None:
    ways = {name: found for name, module in sources() if (found := names_used(module) & WAYS_OUT)}
    missing = sorted((set(GUARDED) | set(OWN)) - set(ways))

    unnamed = [
        f"{name} goes out by {', '.join(sorted(found))}. Who names the address? If anybody but the settings "
        "of this site or host, or an operator at the command line: use access.outbound_http or "
        f"access.oauth.fetch. Otherwise add it to OWN in {Path(__file__).name}, and say whose addresses."
        for name, found in sorted(ways.items())
        if name not in GUARDED and name not in OWN
    ]
    assert unnamed == [], "\n".join(unnamed)
    assert missing == [], (
        f"Take {missing} off the lists of {Path(__file__).name}: they do not go out any more."
    )


def test_every_feature_that_goes_to_others_addresses_has_a_test_of_its_own() -> None:
    users = {
        name
        for name, module in sources()
        if any(used.startswith(GUARD) for used in names_used(module)) and name not in HOLDING_THE_GUARD
    }
    written = "".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_*.py"))

    assert users == set(GUARD_USERS)
    assert [test for test in GUARD_USERS.values() if f"def {test}(" not in written] == []


@pytest.mark.parametrize(
    "made", ["ssl.SSLContext", "ssl.create_default_context", "ssl._create_unverified_context"]
)
def test_tls_is_made_in_one_module(made: str) -> None:
    makers = {
        name
        for name, module in sources()
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == made
    }

    assert makers <= {TLS}
