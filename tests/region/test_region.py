"""Many processes on PostgreSQL, Redis, S3 and nginx: one archive, and nothing lost whichever of them dies."""

import gzip
import re
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import requests
from sqlalchemy import text

from access.caller import operator
from archive.retrieve import find_instances, instance_bytes
from cloudfilm.load_settings import load_settings
from cloudfilm.rooms import build_rooms
from hl7_listener.mllp import frame
from portal.ohif_dist import FOLDER
from tests.builders import ROOT, ct_slice
from tests.builders_hl7 import adt_a04
from tests.dimse.peers import at, dcmtk, said
from tests.servers.postgresql import PostgreSQL, postgresql_server
from tests.servers.region import Region, region_in


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL) -> Iterator[Region]:
    with region_in(tmp_path_factory.mktemp("region"), postgresql.url, is_apart=True) as running:
        yield running


def wait_for(condition: Callable[[], bool], within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.2)


def store(region: Region, client: requests.Session, data: bytes, timeout_s: float = 60) -> requests.Response:
    sent = {"Content-Type": "application/dicom"}
    return client.post(f"{region.url}/dicomweb/studies", data=data, headers=sent, timeout=timeout_s)


def test_an_image_goes_in_at_one_process_and_out_at_another(region: Region, tmp_path: Path) -> None:
    client = region.client()
    data = ct_slice(study=1)
    stored = store(region, client, data)
    path = f"/dicomweb/studies/{ROOT}.1/series/{ROOT}.1.1/instances/{ROOT}.1.1.1"
    token = client.headers["Authorization"]
    headers = {"Authorization": str(token), "Accept": 'multipart/related; type="application/dicom"'}
    answers = [requests.get(f"{url}{path}", headers=headers, timeout=30) for url in region.web_urls]

    assert stored.status_code == 200
    assert [(answer.status_code, data in answer.content) for answer in answers] == [(200, True)] * 2
    retrieve_url = stored.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    assert retrieve_url.startswith(f"{region.url}/dicomweb/studies/")


def test_browsers_speak_http_2_and_plain_http_is_sent_to_tls(region: Region) -> None:
    told = subprocess.run(
        ["curl", "--silent", "--http2", "--cacert", str(region.certificate), "--output", "/dev/null",
         "--write-out", "%{http_version} %{http_code}", f"{region.url}/healthz"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    http_port = int(re.findall(r"listen (\d+);", (region.folder / "nginx.conf").read_text())[0])
    plain = requests.get(f"http://127.0.0.1:{http_port}/x", allow_redirects=False, timeout=10)
    old = subprocess.run(
        [
            "curl",
            "--silent",
            "--tls-max",
            "1.1",
            "--cacert",
            str(region.certificate),
            f"{region.url}/healthz",
        ],
        check=False,
    )

    assert told.stdout == "2 200"
    assert (plain.status_code, plain.headers["Location"]) == (308, f"https://127.0.0.1:{region.https_port}/x")
    assert old.returncode != 0


def test_requests_are_spread_over_the_machines(region: Region) -> None:
    def answered() -> list[float]:
        name = r'^cloudfilm_http_requests_total\{door="health",status="200"\} (\S+)$'
        texts = [requests.get(f"{url}/metrics", timeout=30).text for url in region.web_urls]
        return [sum(map(float, re.findall(name, text, re.MULTILINE))) for text in texts]

    before = answered()
    for _ in range(20):
        requests.get(f"{region.url}/healthz", verify=str(region.certificate), timeout=30)
    after = answered()

    assert all(now - then >= 5 for then, now in zip(before, after, strict=True))


def test_clients_that_never_finish_their_request_are_let_go_and_hold_up_nobody(region: Region) -> None:
    trust = ssl.create_default_context(cafile=str(region.certificate))
    slow = []
    for _ in range(100):
        plain = socket.create_connection(("localhost", region.https_port), timeout=90)
        slow.append(trust.wrap_socket(plain, server_hostname="localhost"))
        slow[-1].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    ready = requests.get(f"{region.url}/readyz", verify=str(region.certificate), timeout=30)
    ends = [each.recv(65536)[:12] for each in slow]  # nothing, or what says that it took too long

    assert ready.status_code == 200
    assert set(ends) <= {b"", b"HTTP/1.1 408"}


def test_figures_are_not_shown_to_the_outside(region: Region) -> None:
    outside = requests.get(f"{region.url}/metrics", verify=str(region.certificate), timeout=10)
    inside = requests.get(f"{region.web_urls[0]}/metrics", timeout=10)

    assert (outside.status_code, inside.status_code) == (403, 200)


def test_a_forged_address_is_not_believed_and_the_proxy_s_is(region: Region) -> None:
    client = region.client()
    client.get(f"{region.url}/fhir/Patient", headers={"X-Forwarded-For": "203.0.113.9"}, timeout=30)

    wait_for(lambda: "search Patient" in region.command("audit", "search", "--action", "search Patient"))
    assert "203.0.113.9" not in region.command("audit", "search", "--action", "search Patient")


def test_jobs_go_through_redis_and_are_done_by_some_worker(region: Region) -> None:
    client = region.client()
    assert store(region, client, ct_slice(study=2)).status_code == 200
    metadata = f"{region.url}/fhir/ImagingStudy?identifier=urn:oid:{ROOT}.2&_summary=count&_total=accurate"

    wait_for(lambda: client.get(metadata, timeout=30).json().get("total") == 1)
    wait_for(lambda: any(key.startswith(b"rq:") for key in region.redis.client().scan_iter()))


def test_modalities_and_the_ris_reach_the_same_archive(region: Region, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(ct_slice(study=3))
    subprocess.run(
        ["storescu", "-aec", "CLOUDFILM", "127.0.0.1", str(region.dicom_port), str(tmp_path / "a.dcm")],
        check=True, timeout=60,
    )  # fmt: skip
    answer = send_message(region, adt_a04(control_id="REGION-1"))
    found = region.client().get(
        f"{region.url}/dicomweb/studies", params={"StudyInstanceUID": f"{ROOT}.3"}, timeout=30
    )

    assert "MSA|AA|REGION-1" in answer
    assert found.status_code == 200


def send_message(region: Region, message: bytes) -> str:
    return send_to(region.mllp_port, message)


def send_to(port: int, message: bytes) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(frame(message))
        received = b""
        while not received.endswith(b"\x1c\r"):
            piece = connection.recv(65536)
            if not piece:
                raise ConnectionError("closed before the answer")
            received += piece
    return received.decode()


STUDIES = count(100)  # each load has studies of its own
SENDERS = 2
PATIENCE = ("-to", "15", "-ta", "15", "-td", "30")  # seconds that storescu waits


@dataclass
class Load:
    """What was acknowledged: images by SOP Instance UID (those of STOW-RS, and those of C-STORE), and control
    ids of messages."""

    region: Region
    images: dict[str, bytes] = field(default_factory=dict)
    scans: dict[str, bytes] = field(default_factory=dict)
    messages: set[str] = field(default_factory=set)

    def goes_on(self) -> None:
        """Wait until more has been acknowledged than until now."""
        had = len(self.images), len(self.scans), len(self.messages)
        wait_for(
            lambda: (
                len(self.images) >= had[0] + 4
                and len(self.scans) >= had[1] + 2
                and len(self.messages) >= had[2] + 2
            )
        )


@contextmanager
def load(region: Region) -> Iterator[Load]:
    """Senders that store images, by both ways, and send messages until the block ends, each until it is
    acknowledged; then it is proven that everything that was acknowledged is there, whole, and once."""
    known = Load(region)
    ended = threading.Event()
    studies = [next(STUDIES) for _ in range(SENDERS)]
    scanned = next(STUDIES)
    authorization = {"Authorization": region.client().headers["Authorization"]}

    def images_of(study: int) -> None:
        client, number = requests.Session(), 0
        client.trust_env, client.verify = False, str(region.certificate)
        client.headers.update(authorization)
        while not ended.is_set():
            number += 1
            data = ct_slice(study=study, instance=number)
            while True:
                with suppress(requests.RequestException):
                    if store(region, client, data, 15).status_code == 200:
                        known.images[f"{ROOT}.{study}.1.{number}"] = data
                        break
                time.sleep(0.1)

    def scans_of(study: int) -> None:
        number = 0
        with tempfile.TemporaryDirectory() as folder:
            while not ended.is_set():
                number += 1
                path = Path(folder, "scan.dcm")
                path.write_bytes(ct_slice(study=study, instance=number))
                while "(Success)" not in said(dcmtk("storescu", "-v", *PATIENCE, *at(region), path)):
                    time.sleep(0.1)
                known.scans[f"{ROOT}.{study}.1.{number}"] = path.read_bytes()[-512:]

    def messages_of(sender: int) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            control_id = f"CHAOS-{sender}-{number}"
            while True:
                with suppress(OSError):
                    if f"MSA|AA|{control_id}" in send_message(region, adt_a04(control_id=control_id)):
                        known.messages.add(control_id)
                        break
                time.sleep(0.1)

    senders = [threading.Thread(target=images_of, args=(study,)) for study in studies]
    senders.append(threading.Thread(target=messages_of, args=(studies[0],)))
    senders.append(threading.Thread(target=scans_of, args=(scanned,)))
    for sender in senders:
        sender.start()
    try:
        yield known
    finally:
        ended.set()
        for sender in senders:
            sender.join(timeout=180)
        assert not any(sender.is_alive() for sender in senders), (
            "a sender never got through: " + region.logs()
        )
    region.wait_until_ready()
    prove(known, studies, scanned)


def prove(known: Load, studies: list[int], scanned: int) -> None:
    """Everything that was acknowledged is there once, as it was sent; of a scan its pixels, for who sends it
    by C-STORE makes a new head."""
    rooms = build_rooms(load_settings(known.region.environment))
    try:
        for study in studies:
            found = [
                (each.sop_instance_uid, b"".join(instance_bytes(rooms.archive, each)))
                for each in find_instances(rooms.archive, operator(), f"{ROOT}.{study}")
            ]
            sent = {uid: data for uid, data in known.images.items() if uid.startswith(f"{ROOT}.{study}.")}
            assert len(found) == len(dict(found))
            assert sent.items() <= dict(found).items()
        scans = [
            (each.sop_instance_uid, b"".join(instance_bytes(rooms.archive, each))[-512:])
            for each in find_instances(rooms.archive, operator(), f"{ROOT}.{scanned}")
        ]
        assert len(scans) == len(dict(scans))
        assert known.scans.items() <= dict(scans).items()
        with rooms.database.snapshot() as session:
            kept = session.execute(
                text("SELECT control_id FROM hl7_message WHERE control_id LIKE :of"),
                {"of": f"CHAOS-{studies[0]}-%"},
            ).scalars()
            received = list(kept)
            held = session.execute(text("SELECT count(*) FROM hold")).scalar()
        assert known.messages <= set(received)
        assert len(received) == len(set(received))
        assert held == 0
    finally:
        rooms.close()


def test_whatever_dies_under_load_nothing_that_was_acknowledged_is_lost_or_doubled(
    region: Region, postgresql: PostgreSQL
) -> None:
    with load(region) as known:
        known.goes_on()
        for name in ("web1", "doors", "worker1", "web2", "worker2"):
            region.parts[name].kill()
            region.parts[name].start()
            if name == "doors":
                region.wait_until_ready()
            known.goes_on()
        for server in (region.redis, postgresql, region.objects):
            server.kill()
            server.start()
            known.goes_on()


def test_a_machine_that_the_network_cuts_off_takes_nothing_with_it(region: Region) -> None:
    assert region.apart is not None
    with load(region) as known:
        known.goes_on()
        region.apart.cut()
        known.goes_on()  # the other machine serves; what hangs at the cut one is sent again
        with pytest.raises(requests.RequestException):
            requests.get(f"{region.web_urls[1]}/healthz", timeout=2)
        region.apart.mend()
        region.wait_until_ready()
        known.goes_on()


def test_a_clock_that_jumps_forth_and_back_costs_nothing(region: Region) -> None:
    with load(region) as known:
        for minutes in (40, -40, 0):
            region.set_clock(minutes)
            known.goes_on()
    jobs = "SELECT count(*) FROM job WHERE dead"
    rooms = build_rooms(load_settings(region.environment))
    with rooms.database.snapshot() as session:
        assert session.execute(text(jobs)).scalar() == 0
    rooms.close()


def test_an_upgrade_of_one_web_process_after_the_other_is_not_noticed(region: Region) -> None:
    client = region.client()
    assert store(region, client, ct_slice(study=7)).status_code == 200
    ended = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not ended.is_set():
            seen.append(client.get(f"{region.url}/dicomweb/studies?limit=1", timeout=60).status_code)

    reader = threading.Thread(target=read)
    reader.start()
    for name in ("web1", "web2"):
        region.parts[name].stop()
        region.parts[name].start()
        region.wait_until_ready()
    ended.set()
    reader.join(timeout=60)

    assert set(seen) == {200}


def test_files_of_the_viewer_are_handed_over_to_nginx(region: Region) -> None:
    headers = {"Authorization": str(region.client("user/*.rs").headers["Authorization"])}
    packed = next(FOLDER.glob("app.bundle.*.js.gz"))
    inside = f"{region.web_urls[0]}/ohif/{packed.stem}"
    plain = requests.get(inside, headers=headers, timeout=30)
    through = requests.get(
        f"{region.url}/ohif/{packed.stem}", headers=headers, verify=str(region.certificate), timeout=60
    )

    assert plain.headers["X-Accel-Redirect"] == f"/_files/ohif/{packed.stem}"
    assert plain.content == b""
    assert (through.status_code, through.headers["Content-Encoding"]) == (200, "gzip")
    assert "X-Accel-Redirect" not in through.headers
    assert through.content == gzip.decompress(packed.read_bytes())
