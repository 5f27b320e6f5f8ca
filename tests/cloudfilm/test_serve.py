"""The server as its operator sees it: started once, restarted where it died, stopped cleanly, kept."""

import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import requests

from tests.builders import ROOT, ct_slice
from tests.live import LiveServer, live_server_in


def test_a_role_that_dies_is_started_again_and_the_data_outlives_the_server(tmp_path: Path) -> None:
    with live_server_in(tmp_path) as server:
        client = server.session()
        stored = client.post(
            f"{server.url}/dicomweb/studies", data=ct_slice(), headers={"Content-Type": "application/dicom"}
        )
        assert stored.status_code == 200
        before = children(server)
        for child in before:
            child.kill()
        psutil.wait_procs(before, timeout=20)
        wait_until_ready(server)

        assert {child.pid for child in children(server)}.isdisjoint(child.pid for child in before)
        assert server.stop() == 0
        assert children(server) == []
        server.start()
        found = client.get(f"{server.url}/dicomweb/studies", params={"StudyInstanceUID": f"{ROOT}.1"})
        assert found.status_code == 200


def test_nothing_outlives_a_server_that_was_killed(tmp_path: Path) -> None:
    with live_server_in(tmp_path) as server:
        below = children(server)
        assert below

        server.process.kill()

        assert psutil.wait_procs(below, timeout=60)[1] == []


def test_roles_may_open_as_many_files_as_the_machine_lets_them(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        with live_server_in(tmp_path) as server:
            limits = [child.rlimit(psutil.RLIMIT_NOFILE) for child in children(server)]
            own = psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert own == (512, hard)
    assert limits.count((hard, hard)) >= 4  # web and its workers, the DICOM door, the worker


def test_clients_that_say_or_take_nothing_hold_up_nobody_for_long(tmp_path: Path) -> None:
    """Without any proxy in front: more of them than the server has threads."""
    with live_server_in(
        tmp_path,
        CLOUDFILM_WEB__PROCESSES="1",
        CLOUDFILM_WEB__THREADS="4",
        CLOUDFILM_WEB__CLIENT_TIMEOUT_S="2",
    ) as server:
        client = server.session()
        sent = client.post(
            f"{server.url}/dicomweb/studies",
            data=ct_slice(Rows=4096, Columns=4096, PixelData=bytes(2 * 4096 * 4096)),
            headers={"Content-Type": "application/dicom"},
        )
        assert sent.status_code == 200
        study = f"/dicomweb/studies/{ROOT}.1"
        token = client.headers["Authorization"]
        for begun in (
            "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
            f"GET {study} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token!s}\r\n\r\n",
        ):
            slow = [socket.create_connection(("127.0.0.1", server.http_port), 60) for _ in range(12)]
            for each in slow:
                each.sendall(begun.encode())
            answer = requests.get(f"{server.url}/readyz", timeout=60)
            for each in slow:
                each.close()
            assert answer.status_code == 200


def children(server: LiveServer) -> list[psutil.Process]:
    """What stands below the server itself, its fork server and web workers among them."""
    try:
        processes = psutil.Process(server.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [child for child in processes if "resource_tracker" not in " ".join(child.cmdline())]


def wait_until_ready(server: LiveServer) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if requests.get(f"{server.url}/readyz", timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise AssertionError(server.output)


def test_a_port_that_is_taken_stops_the_start_with_its_remedy(
    live_server: LiveServer, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cloudfilm", "serve", "--no-sample"],
        env=live_server.environment | {"CLOUDFILM_DATA_DIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert f"web.port is {live_server.http_port}" in done.stderr
    assert "CLOUDFILM_WEB__PORT" in done.stderr
