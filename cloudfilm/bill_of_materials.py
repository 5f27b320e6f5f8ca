"""The bill of materials of what is shipped, as CycloneDX 1.6 JSON: `python -m cloudfilm.bill_of_materials`.

Drawn from the lock files, so it names what `make` and the image install, version by version, with the hashes
that installing checks. What the operating system brings is in its own list; what only tests take is left out.
"""

import base64
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from portal.ohif_dist import INTEGRITY, PACKAGE, VERSION

ROOT = Path(__file__).parents[1]
PYTHON_LOCK = ROOT / "requirements.lock"
NPM_LOCK = (
    ROOT / "portal" / "ui" / "package-lock.json"
)  # what is built into the pages' scripts, and builds them
REQUIREMENT = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[^\s;]+)")
SHA256 = re.compile(r"--hash=sha256:([0-9a-f]{64})")

Component = dict[str, Any]


def bill_of_materials() -> dict[str, Any]:
    """The document. Raises OSError outside of a source tree, where the lock files are."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "name": project["name"], "version": project["version"]}
        },
        "components": [*_python(), *_npm()],
    }


def _python() -> Iterator[Component]:
    for block in PYTHON_LOCK.read_text("utf-8").replace("\\\n", "").splitlines():
        if found := REQUIREMENT.match(block):
            files = [{"alg": "SHA-256", "content": each} for each in SHA256.findall(block)]
            address = f"https://pypi.org/simple/{found['name']}/"
            yield {
                **_component("pypi", found["name"], found["version"]),
                "externalReferences": [  # a wheel for each platform: any of them may be the one installed
                    {"type": "distribution", "url": address, "hashes": [each]} for each in files
                ],
            }


def _npm() -> Iterator[Component]:
    packages = json.loads(NPM_LOCK.read_text("utf-8"))["packages"]
    named = {
        (path.rpartition("node_modules/")[2], package["version"]): package["integrity"]
        for path, package in packages.items()
        if "integrity" in package
    }
    for (name, version), integrity in sorted((named | {(PACKAGE, VERSION): INTEGRITY}).items()):
        digest = base64.b64decode(integrity.removeprefix("sha512-")).hex()
        yield _component("npm", name, version) | {"hashes": [{"alg": "SHA-512", "content": digest}]}


def _component(kind: str, name: str, version: str) -> Component:
    purl = f"pkg:{kind}/{quote(name)}@{version}"  # package-url: the @ of an npm scope is %40
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    print(json.dumps(bill_of_materials(), indent=2))
