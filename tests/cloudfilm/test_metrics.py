"""Figures for Prometheus: those of all processes together, and alert rules that fire on what they are for."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.builders import ct_slice
from tests.live import LiveServer

MONITORING = Path(__file__).parents[2] / "docker" / "monitoring"


def figure(server: LiveServer, name: str, **labels: str) -> float:
    text = requests.get(f"{server.url}/metrics", timeout=10).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def grows(read: Callable[[], float], act: Callable[[], object]) -> float:
    before = read()
    act()
    return read() - before


def test_whichever_process_answers_the_figures_are_those_of_all(live_server: LiveServer) -> None:
    client = live_server.session()

    def search_many_times() -> None:
        for _ in range(24):  # on new connections, so that several processes get some
            requests.get(f"{live_server.url}/dicomweb/studies", headers=client.headers, timeout=10)

    def searches() -> float:
        return figure(live_server, "cloudfilm_http_requests_total", door="qido")

    assert grows(searches, search_many_times) == 24


def echo(server: LiveServer) -> None:
    subprocess.run(
        ["echoscu", "-aec", "CLOUDFILM", "127.0.0.1", str(server.dicom_port)], check=True, timeout=60
    )


def store(server: LiveServer) -> None:
    server.session().post(
        f"{server.url}/dicomweb/studies",
        data=ct_slice(study=77),
        headers={"Content-Type": "application/dicom"},
    ).raise_for_status()


def test_roles_without_http_are_counted_too(live_server: LiveServer) -> None:
    echoes = grows(
        lambda: figure(live_server, "cloudfilm_dimse_requests_total", operation="C_ECHO"),
        lambda: echo(live_server),
    )
    stored = grows(
        lambda: figure(live_server, "cloudfilm_instances_ingested_total", outcome="stored"),
        lambda: store(live_server),
    )
    jobs = figure(live_server, "cloudfilm_jobs_run_total", outcome="done")

    assert (echoes, stored) == (1, 1)
    assert jobs > 0


def test_alert_rules_fire_on_what_they_are_for_and_prometheus_takes_its_configuration() -> None:
    checks = (
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts_test.yml"),
    )
    for arguments in checks:
        done = subprocess.run(
            ["promtool", *arguments], cwd=MONITORING, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_dashboard_and_alert_rules_ask_for_figures_that_there_are(live_server: LiveServer) -> None:
    echo(live_server)
    store(live_server)
    shown = requests.get(f"{live_server.url}/metrics", timeout=10).text
    asked = set(re.findall(r"cloudfilm_\w+", (MONITORING / "dashboard.json").read_text()))
    asked |= set(re.findall(r"\bcloudfilm_\w+", (MONITORING / "alerts.yml").read_text()))
    after_their_first_time = {f"cloudfilm_last_{kind}_timestamp_seconds" for kind in ("backup", "drill")}

    assert asked - set(re.findall(r"^(?:# TYPE )?(cloudfilm_\w+)", shown, re.M)) <= after_their_first_time
