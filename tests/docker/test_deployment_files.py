"""What is deployed by is valid, names roles that there are, and settings that there are."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from cloudfilm.load_settings import load_settings
from cloudfilm.roles import ROLES

DOCKER = Path(__file__).parents[2] / "docker"
BIN = Path(sys.executable).parent


def run(*command: str, **more: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_dockerfile_has_no_finding() -> None:
    run(str(BIN / "hadolint"), str(DOCKER / "Dockerfile"))


def composed() -> dict[str, Any]:
    """compose.yaml as Compose reads it, with a password in place of the site's."""
    told = run("docker-compose", "-f", str(DOCKER / "compose.yaml"), "config", POSTGRES_PASSWORD="secret")
    services: dict[str, Any] = yaml.safe_load(told)["services"]
    return services


def test_the_compose_file_is_valid() -> None:
    assert composed()["web"]["image"] == "cloudfilm:latest"


def test_compose_does_not_begin_without_a_password() -> None:
    done = subprocess.run(
        ["docker-compose", "-f", str(DOCKER / "compose.yaml"), "config"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert "write it into docker/.env" in done.stderr


def test_the_kubernetes_files_are_valid() -> None:
    for file in sorted((DOCKER / "kubernetes").glob("*.yaml")):
        run(str(BIN / "kubernetes-validate"), "--strict", "--quiet", str(file))


def test_every_role_has_a_place_in_both() -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    served = {
        role
        for service in compose["services"].values()
        if (service.get("command") or [""])[0] == "serve"
        for role in service["command"][1:]
    }
    deployed = {
        role
        for file in (DOCKER / "kubernetes").glob("*.yaml")
        for document in yaml.safe_load_all(file.read_text())
        if document["kind"] == "Deployment"
        for role in document["spec"]["template"]["spec"]["containers"][0]["args"][1:]
    }

    assert served == deployed == set(ROLES)


def test_every_role_gets_the_password_where_libpq_looks_for_it() -> None:
    """Not in a file: libpq passes over one that a group may read, and other users' files are of no use."""
    ours = [service for service in composed().values() if service["image"] == "cloudfilm:latest"]
    deployed = [
        container
        for file in (DOCKER / "kubernetes").glob("*.yaml")
        for document in yaml.safe_load_all(file.read_text())
        if document["kind"] in ("Deployment", "Job")
        for container in document["spec"]["template"]["spec"]["containers"]
    ]

    assert {service["environment"]["PGPASSWORD"] for service in ours} == {"secret"}
    assert all(
        {"secretRef": {"name": "cloudfilm-database"}} in container["envFrom"] for container in deployed
    )
    assert len(deployed) == len(ROLES) + 1


def test_what_listens_in_the_image_listens_to_other_containers() -> None:
    image = dict(re.findall(r"(CLOUDFILM_\w+)=(\S+)", (DOCKER / "Dockerfile").read_text()))
    told = load_settings(image)
    exposed = re.findall(r"\d+", re.findall(r"^EXPOSE (.*)", (DOCKER / "Dockerfile").read_text(), re.M)[0])

    assert {told.web.host, told.push.host, told.dimse.host, told.mllp.host} == {"0.0.0.0"}
    assert set(map(int, exposed)) == {told.web.port, told.push.port, told.dimse.port, told.mllp.port}


def test_a_volume_for_the_key_ring_belongs_to_who_makes_the_ring() -> None:
    """A new volume takes its owner from the folder of the image that it is mounted on, if there is one."""
    made = re.findall(r"install --directory --owner=10001 .*", (DOCKER / "Dockerfile").read_text())

    assert "/var/lib/cloudfilm/keys" in made[0].split()
    assert "keys:/var/lib/cloudfilm/keys" in str(composed()["web"]["volumes"])


def test_the_database_of_compose_is_one_that_the_image_can_dump() -> None:
    """pg_dump refuses a server that is newer than itself; Debian 12 (bookworm) has that of PostgreSQL 15."""
    base = re.findall(r"^ARG BASE=(\S+)", (DOCKER / "Dockerfile").read_text(), re.M)

    assert base[0].endswith("-bookworm")
    assert composed()["postgres"]["image"] == "postgres:15"


def test_every_setting_in_them_is_one_that_the_loader_takes() -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    config = yaml.safe_load((DOCKER / "kubernetes" / "config.yaml").read_text())
    image = dict(re.findall(r"(CLOUDFILM_\w+)=(\S+)", (DOCKER / "Dockerfile").read_text()))
    written = re.compile(r"\$\{\w+:-([^}]*)\}")
    environment = {
        name: written.sub(r"\1", value) for name, value in compose["services"]["web"]["environment"].items()
    }

    assert load_settings(image | environment).web.trusted_proxies
    assert load_settings(image | config["data"]).web.public_url.startswith("https://")
