"""What is deployed by is valid, names roles that there are, and settings that there are."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from cloudfilm.load_settings import load_settings
from cloudfilm.roles import ROLES

DOCKER = Path(__file__).parents[2] / "docker"
BIN = Path(sys.executable).parent


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_dockerfile_has_no_finding() -> None:
    run(str(BIN / "hadolint"), str(DOCKER / "Dockerfile"))


def test_the_compose_file_is_valid() -> None:
    run("docker-compose", "-f", str(DOCKER / "compose.yaml"), "config", "--quiet")


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
