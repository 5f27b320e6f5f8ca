"""Traces reach a collector by OTLP, from every door to the job that an arrival caused."""

import gzip
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from kernel.settings import TracesSettings
from kernel.traces import NOTHING, set_up_traces, span, summary, traceparent
from tests.builders import ROOT, ct_slice
from tests.builders_hl7 import adt_a04
from tests.live import LiveServer, live_server_in
from tests.region.test_region import send_to

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@dataclass
class Collector:
    """A collector of the test's own: OTLP over HTTP, protobuf."""

    url: str
    spans: list[tuple[str, Span]] = field(default_factory=list)  # role, span

    def wait_for(self, name: str, trace: str = "") -> Span:
        """The first span of a name (in a trace)."""
        deadline = time.monotonic() + 90
        while True:
            for _, found in list(self.spans):
                if found.name == name and trace in ("", found.trace_id.hex()):
                    return found
            assert time.monotonic() < deadline, (name, sorted({found.name for _, found in self.spans}))
            time.sleep(0.1)

    def below(self, parent: Span) -> set[str]:
        """Names of the spans that a span caused."""
        return {found.name for _, found in self.spans if found.parent_span_id == parent.span_id}


@contextmanager
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                of = {each.key: each.value.string_value for each in group.resource.attributes}
                for scope in group.scope_spans:
                    found.spans += [(of["cloudfilm.role"], each) for each in scope.spans]
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collector, LiveServer]]:
    with (
        collector() as found,
        live_server_in(
            tmp_path_factory.mktemp("traced"),
            CLOUDFILM_TRACES__ENDPOINT=found.url,
            CLOUDFILM_ARCHIVE__REST_AFTER_S="0.5",
            CLOUDFILM_WEB__PROCESSES="1",
            CLOUDFILM_DIMSE__PROCESSES="1",
        ) as server,
    ):
        yield found, server


def attributes(found: Span) -> dict[str, object]:
    return {each.key: each.value.string_value or each.value.int_value for each in found.attributes}


def test_a_request_is_one_trace_down_to_store_and_database_and_on_to_the_job_it_caused(
    traced: tuple[Collector, LiveServer],
) -> None:
    found, server = traced
    headers = {"Content-Type": "application/dicom", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    stored = server.session().post(
        f"{server.url}/dicomweb/studies", ct_slice(study=1), headers=headers, timeout=60
    )
    assert stored.status_code == 200
    request = found.wait_for("POST /dicomweb/studies", TRACE)
    job = found.wait_for("job archive.rest.rest_study", TRACE)

    assert request.parent_span_id.hex() == "00f067aa0ba902b7"
    assert (request.kind, attributes(request)["http.response.status_code"]) == (Span.SPAN_KIND_SERVER, 200)
    assert {"store commit", "INSERT instance", "INSERT job"} <= found.below(request)
    assert any(name.startswith("SELECT") for name in found.below(job))
    assert {role for role, each in found.spans if each.name == job.name} == {"worker"}


def test_reading_an_object_is_part_of_its_request(traced: tuple[Collector, LiveServer]) -> None:
    found, server = traced
    data = ct_slice(study=2)
    client = server.session()
    sent = {"Content-Type": "application/dicom"}
    assert client.post(f"{server.url}/dicomweb/studies", data, headers=sent, timeout=60).status_code == 200
    uid = f"{ROOT}.2/series/{ROOT}.2.1/instances/{ROOT}.2.1.1"
    got = client.get(f"{server.url}/dicomweb/studies/{uid}", timeout=60)
    assert data in got.content
    name = "GET /dicomweb/studies/<study>/series/<series>/instances/<instance>"
    request = found.wait_for(name)

    assert {"store open", "store read", "SELECT instance"} <= found.below(request)


def test_operations_and_messages_are_traces_too(traced: tuple[Collector, LiveServer], tmp_path: Path) -> None:
    found, server = traced
    (tmp_path / "a.dcm").write_bytes(ct_slice(study=3))
    peer = ["storescu", "-aec", "CLOUDFILM", "127.0.0.1", str(server.dicom_port), str(tmp_path / "a.dcm")]
    subprocess.run(peer, check=True, timeout=60)
    assert "MSA|AA|T1" in send_to(server.mllp_port, adt_a04(control_id="T1"))
    stored, received = found.wait_for("C_STORE"), found.wait_for("MLLP receive")

    assert "store commit" in found.below(stored)
    assert "HL7 ADT^A04" in found.below(received)


def test_no_value_and_no_identifier_of_a_patient_is_told(traced: tuple[Collector, LiveServer]) -> None:
    found, server = traced
    client = server.session()
    client.get(f"{server.url}/dicomweb/studies?PatientName=Secret*&PatientID=HiddenNumber", timeout=60)
    client.get(f"{server.url}/fhir/Patient/secret-HiddenNumber", timeout=60)
    found.wait_for("GET /dicomweb/studies")
    found.wait_for("GET /fhir/<resource_type>/<logical_id>")
    told = "".join(str(each) for _, each in found.spans)

    assert "HiddenNumber" not in told
    assert "ecret" not in told


def test_without_a_collector_nothing_is_made() -> None:
    set_up_traces(TracesSettings(), "web", "0")

    assert span("anything", with_attributes=1) is NOTHING
    assert traceparent() == ""


def test_what_a_statement_does() -> None:
    assert summary("SELECT study.id \nFROM study \nWHERE x = 1") == ("SELECT", "study")
    assert summary('INSERT INTO "job" (name) VALUES (?)') == ("INSERT", "job")
    assert summary("UPDATE job SET due=?") == ("UPDATE", "job")
    assert summary("DELETE FROM job WHERE id = ?") == ("DELETE", "job")
    assert summary("SAVEPOINT one_write") == ("SAVEPOINT", "")
    assert summary("") == ("", "")
