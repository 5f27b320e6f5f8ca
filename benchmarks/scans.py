"""Three scanners of others against a running server: testssl.sh, sqlmap and schemathesis.

    python -m benchmarks.scans [--only testssl sqlmap schemathesis] [--folder DIR] [--examples 15] [--level 1]

Starts a server with TLS, its own certificate and one study in a folder of its own, runs each scanner, prints
what each found and ends with 1 when one found something or could not say. testssl.sh and sqlmap are Debian's
packages; schemathesis comes with the development requirements. What the tools wrote stays in the folder.

A scan shows what a tool looked for on that day, and no more.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import which

from tests.builders import ct_slice
from tests.live import LiveServer, live_server_in

OWN_CERTIFICATE = {  # what is said of every certificate that a server made for itself
    "cert_chain_of_trust", "cert_notRevoked", "cert_revocation", "cert_crlDistributionPoints", "cert_ocspURL",
    "cert_extlifeSpan", "cert_commonName_wo_SNI", "cert_trust", "OCSP_stapling", "DNS_CAArecord",
    "cert_caIssuers", "cert_certificatePolicies_EV",
}  # fmt: skip
BAD = {"MEDIUM", "HIGH", "CRITICAL", "WARN"}
ADDRESSES = (  # with each parameter that sqlmap is to try
    ("/dicomweb/studies?PatientName=Zhang&limit=5", "PatientName,limit"),
    ("/dicomweb/studies?StudyDate=20240101-20241231&orderby=StudyDate", "StudyDate,orderby"),
    ("/dicomweb/instances?SOPInstanceUID=1.2.3&includefield=00081030", "SOPInstanceUID,includefield"),
    ("/fhir/Patient?name=zhang&identifier=P1&birthdate=1970-01-15", "name,identifier,birthdate"),
    ("/fhir/Patient?_sort=name&_count=5", "_sort,_count"),
    ("/fhir/ImagingStudy?modality=CT&_lastUpdated=gt2024-01-01", "modality,_lastUpdated"),
)
CLEAN = "all tested parameters do not appear to be injectable"
SCOPES = "system/*.cruds user/*.cruds"
SETTINGS = " ".join(f"system/{each}.cruds" for each in ("Account", "Node", "Client", "Policy"))
UNSEEN = {
    "engine_problem",
    "RC4",
    "HTTP_status_code",
}  # what Debian's OpenSSL, or `/`, which redirects, hides


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=sorted(SCANS), default=sorted(SCANS))
    parser.add_argument("--folder", type=Path, default=None, help="where the tools write")
    parser.add_argument("--examples", type=int, default=15, help="of each operation, by schemathesis")
    parser.add_argument("--level", type=int, default=1, help="of sqlmap, 1 to 5")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="cloudfilm-scans-"))
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / "image.dcm"
    image.write_bytes(ct_slice())
    found: list[str] = []
    with live_server_in(folder / "server", CLOUDFILM_WEB__TLS="on") as server:
        server.command("import", str(image))
        for name in arguments.only:
            findings = SCANS[name](server, folder, arguments)
            print(f"{name}: {'nothing found' if not findings else ''}", flush=True)
            for finding in findings:
                print(f"  {finding}", flush=True)
            found += findings
    print(f"what the tools wrote: {folder}")
    sys.exit(1 if found else 0)


def testssl(server: LiveServer, folder: Path, _: argparse.Namespace) -> list[str]:
    """Protocols, suites, forward secrecy, server defaults, headers and known weaknesses."""
    report = folder / "testssl.json"
    report.unlink(missing_ok=True)
    _run(
        folder, "testssl", "--quiet", "--color", "0", "--warnings", "batch", "--fast", "-p", "-s", "-f",
        "-P", "-S", "-h", "-U", "--jsonfile", str(report), server.url,
    )  # fmt: skip
    said = json.loads(report.read_text())
    assert any(each["id"] == "TLS1_2" for each in said), "testssl.sh said nothing of TLS 1.2"
    return [
        f"{each['id']}: {each['severity']} {each['finding']}"
        for each in said
        if each["severity"] in BAD
        and each["id"].partition(" ")[0] not in OWN_CERTIFICATE
        and not (each["severity"] == "WARN" and each["id"] in UNSEEN)
    ]


def sqlmap(server: LiveServer, folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Parameters of searches, and the sign-in form."""
    token = server.token(SCOPES)
    findings = []
    common = ("--batch", "--disable-coloring", "--flush-session", "--technique", "BEU", "--risk", "1",
              "--level", str(arguments.level), "--ignore-code", "400,404,406,422",
              "--output-dir", str(folder / "sqlmap"))  # fmt: skip
    asked = [
        (address, ("-p", parameters, "--headers", f"Authorization: Bearer {token}"))
        for address, parameters in ADDRESSES
    ]
    form = ("--data", "login=nobody&password=x", "-p", "login,password", "--ignore-code", "401,429",
            "--headers", "Sec-Fetch-Site: same-origin")  # fmt: skip
    for address, options in (*asked, ("/sign-in", form)):
        said = _run(folder, "sqlmap", "-u", server.url + address, *common, *options)
        if CLEAN not in said:
            findings.append(f"{address}: {_last_words(said)}")
    return findings


def fuzz(server: LiveServer, folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Every operation of the administration API's OpenAPI document, with data that fits and that does not."""
    said = _run(
        folder, str(Path(sys.executable).with_name("schemathesis")), "run",
        f"{server.url}/api/openapi.json", "--tls-verify", "false", "--mode", "all",
        "--max-examples", str(arguments.examples),
        "--checks", "not_a_server_error,response_schema_conformance",
        "--header", f"Authorization: Bearer {server.token(f'{SCOPES} {SETTINGS}')}",
        "--no-color", "--phases", "fuzzing",
    )  # fmt: skip
    passed = re.search(r"(\d+) generated, (\d+) passed", said)
    return [] if passed and passed[1] == passed[2] and passed[1] != "0" else [_last_words(said)]


def _run(folder: Path, *command: str) -> str:
    """What a tool printed; kept in the folder too."""
    name = Path(command[0]).name
    if which(command[0]) is None:
        return f"{name} is not installed"
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    said = done.stdout + done.stderr
    with (folder / f"{name}.log").open("a") as log:
        log.write(said)
    return said


def _last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("[*]")]
    return " | ".join(lines[-3:])


SCANS = {"testssl": testssl, "sqlmap": sqlmap, "schemathesis": fuzz}

if __name__ == "__main__":
    main()
