"""From the worklist to the commitment, as devices do it: pynetdicom as modality, workstation and listener."""

import json
import queue
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    ModalityPerformedProcedureStepRetrieve,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    UnifiedProcedureStepEvent,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepQuery,
    UnifiedProcedureStepWatch,
)

from tests.archive.test_workitems import performed, scheduled
from tests.builders import ct_slice, dataset
from tests.dimse.peers import steady
from tests.live import LiveServer, free_ports

UPS = UnifiedProcedureStepPush
MPPS = ModalityPerformedProcedureStep
COMMIT = StorageCommitmentPushModel


class Peer:
    """An association with the server, in some roles."""

    def __init__(
        self, server: LiveServer, *sop_classes: Any, title: str = "MODALITY", handlers: Any = ()
    ) -> None:
        ae = AE(title)
        for sop_class in sop_classes:
            ae.add_requested_context(sop_class)
        called = ("127.0.0.1", server.dicom_port)
        self.association: Any = steady(
            ae.associate(*called, ae_title="CLOUDFILM", evt_handlers=list(handlers))
        )
        assert self.association.is_established

    def __enter__(self) -> Any:
        return self.association

    def __exit__(self, *_: object) -> None:
        self.association.release()


class Listener:
    """A node that the server calls: every message it sends, and the status it is answered with."""

    def __init__(self, title: str, *sop_classes: Any) -> None:
        self.title, (self.port,) = title, free_ports(1)
        self.heard: queue.Queue[tuple[Any, Dataset]] = queue.Queue()
        self.statuses: list[int] = []
        ae = AE(title)
        for sop_class in sop_classes:
            ae.add_supported_context(sop_class, scu_role=True, scp_role=True)
        handlers: Any = [(evt.EVT_N_EVENT_REPORT, self._take), (evt.EVT_N_CREATE, self._take)]
        self._server: Any = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def _take(self, event: Any) -> tuple[int, None]:
        status = self.statuses.pop(0) if self.statuses else 0
        request = event.request
        if status == 0:
            data = getattr(request, "EventInformation", None) or getattr(request, "AttributeList", None)
            self.heard.put((request, _decode(data, event)))
        return status, None

    def next(self) -> tuple[Any, Dataset]:
        return self.heard.get(timeout=60)

    def add_to(self, server: LiveServer, may: str = "store,worklist") -> None:
        server.command(
            "node", "add", self.title, "--host", "127.0.0.1", "--port", str(self.port), "--may", may,
            "--institution", "MAIN",
        )  # fmt: skip

    def close(self) -> None:
        self._server.shutdown()


def _decode(data: Any, event: Any) -> Dataset:
    from pynetdicom.dsutils import decode

    syntax = event.context.transfer_syntax
    return decode(data, syntax.is_implicit_VR, syntax.is_little_endian)


def listening(server: LiveServer, title: str, *sop_classes: Any, **options: Any) -> Iterator[Listener]:
    listener = Listener(title, *sop_classes)
    listener.add_to(server, **options)
    yield listener
    listener.close()


def step(study_uid: str, step_id: str = "", accession_number: str = "", **attributes: Any) -> Dataset:
    """An MPPS as it begins."""
    scheduled_step = Dataset()
    scheduled_step.StudyInstanceUID = study_uid
    scheduled_step.AccessionNumber = accession_number
    scheduled_step.ScheduledProcedureStepID = step_id
    said = Dataset()
    said.ScheduledStepAttributesSequence = [scheduled_step]
    said.PatientName, said.PatientID = "Zhang^Wei", "M1"
    said.PerformedProcedureStepID = "PPS1"
    said.PerformedStationAETitle = "CT01"
    said.PerformedProcedureStepStartDate, said.PerformedProcedureStepStartTime = "20260301", "093100"
    said.PerformedProcedureStepStatus = "IN PROGRESS"
    said.Modality = "CT"
    for keyword, value in attributes.items():
        setattr(said, keyword, value)
    return said


def ended(status: str, series_uid: str = "", *instances: str, **attributes: Any) -> Dataset:
    """How it ends."""
    said = Dataset()
    said.PerformedProcedureStepStatus = status
    said.PerformedProcedureStepEndDate, said.PerformedProcedureStepEndTime = "20260301", "094500"
    if series_uid:
        series = Dataset()
        series.SeriesInstanceUID = series_uid
        series.ReferencedImageSequence = [reference(uid) for uid in instances]
        said.PerformedSeriesSequence = [series]
    for keyword, value in attributes.items():
        setattr(said, keyword, value)
    return said


def reference(uid: str, sop_class: str = "1.2.840.10008.5.1.4.1.1.2") -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    return item


def ordered(server: LiveServer, number: str) -> tuple[str, str]:
    """An order on the worklist: its study and its workitem."""
    server.command("worklist", "add", number, "Zhang^Wei", "--modality", "CT", "--accession-number", number)
    http = server.session("system/Workitem.rs system/ServiceRequest.rs")
    (found,) = http.get(
        f"{server.url}/dicomweb/workitems",
        params={"ReferencedRequestSequence.AccessionNumber": number}, timeout=60,
    ).json()  # fmt: skip
    return found["0020000D"]["Value"][0], found["00080018"]["Value"][0]


def state_of(server: LiveServer, uid: str) -> str:
    http = server.session("system/Workitem.rs")
    found = http.get(f"{server.url}/dicomweb/workitems/{uid}", timeout=60).json()[0]
    return str(found["00741000"]["Value"][0])


def test_a_step_claims_and_completes_its_workitem_and_its_order(live_server: LiveServer) -> None:
    study_uid, workitem = ordered(live_server, "M1")
    uid = generate_uid()
    with Peer(live_server, MPPS, ModalityPerformedProcedureStepRetrieve) as modality:
        status, _ = modality.send_n_create(step(study_uid, accession_number="M1"), MPPS, uid)
        assert status.Status == 0
        assert state_of(live_server, workitem) == "IN PROGRESS"
        assert "M1" not in live_server.command("worklist", "list").stdout
        instances = [dataset(study=91, instance=at).SOPInstanceUID for at in (1, 2)]
        status, _ = modality.send_n_set(ended("COMPLETED", "1.2.3", *instances), MPPS, uid)
        assert status.Status == 0
        status, said = modality.send_n_get(
            [0x00400252, 0x00400241], ModalityPerformedProcedureStepRetrieve, uid,
            meta_uid=ModalityPerformedProcedureStepRetrieve,
        )  # fmt: skip
        assert (status.Status, said.PerformedProcedureStepStatus) == (0, "COMPLETED")
    assert state_of(live_server, workitem) == "COMPLETED"
    http = live_server.session("system/*.rs")
    for _ in range(200):
        found = http.get(f"{live_server.url}/fhir/ServiceRequest?identifier=M1", timeout=60).json()
        status_ = found["entry"][0]["resource"]["status"]
        if status_ == "completed":
            break
    assert status_ == "completed"


def test_what_a_step_said_it_made_is_what_a_study_is_checked_against(live_server: LiveServer) -> None:
    here, missing = dataset(study=92, instance=1), dataset(study=92, instance=2)
    http = live_server.session()
    http.post(
        f"{live_server.url}/dicomweb/studies", data=ct_slice(study=92, instance=1),
        headers={"Content-Type": "application/dicom"}, timeout=60,
    ).raise_for_status()  # fmt: skip
    uid = generate_uid()
    with Peer(live_server, MPPS) as modality:
        modality.send_n_create(step(here.StudyInstanceUID), MPPS, uid)
        made = (here.SOPInstanceUID, missing.SOPInstanceUID)
        status, _ = modality.send_n_set(ended("COMPLETED", here.SeriesInstanceUID, *made), MPPS, uid)
        assert status.Status == 0
    checked = live_server.command("study", "check", here.StudyInstanceUID, check=False)

    assert checked.returncode == 1
    assert f"performed and not arrived: 1\n    {missing.SOPInstanceUID}" in checked.stdout


def test_a_step_that_was_begun_by_mistake_puts_the_order_back(live_server: LiveServer) -> None:
    study_uid, workitem = ordered(live_server, "M2")
    uid = generate_uid()
    wrong = Dataset()
    wrong.CodeValue, wrong.CodingSchemeDesignator, wrong.CodeMeaning = (
        "110514",
        "DCM",
        "Incorrect worklist entry",
    )
    with Peer(live_server, MPPS) as modality:
        modality.send_n_create(step(study_uid, accession_number="M2"), MPPS, uid)
        end = ended("DISCONTINUED", PerformedProcedureStepDiscontinuationReasonCodeSequence=[wrong])
        status, _ = modality.send_n_set(end, MPPS, uid)
        assert status.Status == 0
    assert state_of(live_server, workitem) == "CANCELED"
    assert "M2" in live_server.command("worklist", "list").stdout


def test_a_step_keeps_its_state_rules(live_server: LiveServer) -> None:
    uid = generate_uid()
    with Peer(live_server, MPPS) as modality:

        def create(said: Dataset, at: str = "") -> int:
            return int(modality.send_n_create(said, MPPS, at or generate_uid())[0].Status)

        def change(said: Dataset, at: str = uid) -> Any:
            return modality.send_n_set(said, MPPS, at)[0]

        assert create(step("1.2.9", PerformedProcedureStepStatus="COMPLETED")) == 0x0106
        assert create(step("1.2.9", Modality="")) == 0x0120
        assert create(step("")) == 0x0120
        assert create(step("1.2.9"), uid) == 0
        assert create(step("1.2.9"), uid) == 0x0111
        assert change(ended("COMPLETED")).Status == 0x0120
        assert change(ended("FINISHED")).Status == 0x0106
        assert change(ended("IN PROGRESS", PatientID="OTHER")).Status == 0x0106
        assert change(ended("COMPLETED", "1.2.3"), "1.2.3.4.5").Status == 0x0112
        assert change(ended("COMPLETED", "1.2.3")).Status == 0
        late = change(ended("DISCONTINUED"))
        assert (late.Status, late.ErrorID) == (0x0110, 0xA710)


def test_a_workitem_lives_over_the_five_classes(live_server: LiveServer) -> None:
    """Created by push, heard of by watch, claimed and completed by pull, found by query."""
    uid = generate_uid()
    new = Dataset.from_json(scheduled(PatientID="U1"))
    done = Dataset.from_json(performed())
    listeners = listening(live_server, "WATCHER", UnifiedProcedureStepEvent)
    watcher = next(listeners)
    watcher.statuses = [0x0110]  # the first report is not taken, and comes again
    classes = (UPS, UnifiedProcedureStepWatch, UnifiedProcedureStepPull, UnifiedProcedureStepQuery)
    with Peer(live_server, *classes) as peer:

        def act(type_: int, meta: Any, at: str = uid, **said: Any) -> int:
            info = Dataset()
            for keyword, value in said.items():
                setattr(info, keyword, value)
            return int(peer.send_n_action(info or None, type_, UPS, at, meta_uid=meta)[0].Status)

        assert peer.send_n_create(new, UPS, uid, meta_uid=UPS)[0].Status == 0
        assert peer.send_n_create(new, UPS, uid, meta_uid=UPS)[0].Status == 0x0111
        finish = {"ProcedureStepState": "COMPLETED", "TransactionUID": "1.2.7"}
        assert act(3, UnifiedProcedureStepWatch, ReceivingAE="WATCHER", DeletionLock="FALSE") == 0
        assert act(1, UPS, ProcedureStepState="IN PROGRESS") == 0x0123  # not of the push class
        assert act(1, UnifiedProcedureStepPull, ProcedureStepState="IN PROGRESS") == 0xC301
        assert act(1, UnifiedProcedureStepPull, **finish) == 0xC310
        claim = {"ProcedureStepState": "IN PROGRESS", "TransactionUID": "1.2.7"}
        assert act(1, UnifiedProcedureStepPull, **claim) == 0
        assert act(1, UnifiedProcedureStepPull, **claim) == 0xC302
        assert act(2, UPS, ReasonForCancellation="Patient left") == 0
        done.TransactionUID = "1.2.8"
        assert peer.send_n_set(done, UPS, uid, meta_uid=UnifiedProcedureStepPull)[0].Status == 0xC301
        done.TransactionUID = "1.2.7"
        assert peer.send_n_set(done, UPS, uid, meta_uid=UnifiedProcedureStepPull)[0].Status == 0
        assert act(1, UnifiedProcedureStepPull, **finish) == 0
        assert act(1, UnifiedProcedureStepPull, **finish) == 0xB306
        assert act(2, UPS) == 0xC311
        assert act(3, UnifiedProcedureStepWatch, "1.2.3.4", ReceivingAE="WATCHER") == 0xC307
        assert act(5, UnifiedProcedureStepWatch, ReceivingAE="WATCHER") == 0xC314
        assert act(9, UnifiedProcedureStepWatch) == 0x0123
        status, found = peer.send_n_get(
            [0x00741000, 0x00100020], UPS, uid, meta_uid=UnifiedProcedureStepWatch
        )
        assert (status.Status, found.ProcedureStepState, found.PatientID) == (0, "COMPLETED", "U1")
        keys = Dataset()
        keys.PatientID, keys.ProcedureStepState, keys.SOPInstanceUID = "U1", "", ""
        answers = list(peer.send_c_find(keys, UnifiedProcedureStepQuery))
        assert [each.SOPInstanceUID for _, each in answers if each] == [uid]
    reports: list[tuple[int, str]] = []
    while len(reports) < 4:
        request, report = watcher.next()
        assert request.AffectedSOPInstanceUID == uid
        reports.append((request.EventTypeID, report.get("ProcedureStepState", "")))
    assert sorted(reports) == [(1, "COMPLETED"), (1, "IN PROGRESS"), (1, "SCHEDULED"), (2, "")]
    next(listeners, None)


def stored(server: LiveServer, study: int) -> str:
    http = server.session()
    http.post(
        f"{server.url}/dicomweb/studies", data=ct_slice(study=study),
        headers={"Content-Type": "application/dicom"}, timeout=60,
    ).raise_for_status()  # fmt: skip
    return str(dataset(study=study).SOPInstanceUID)


def request_for(*references: Dataset) -> Dataset:
    said = Dataset()
    said.TransactionUID = generate_uid()
    said.ReferencedSOPSequence = list(references)
    return said


def test_commitment_comes_over_the_same_association_for_whom_we_cannot_call(live_server: LiveServer) -> None:
    uid = stored(live_server, 93)
    heard: queue.Queue[tuple[int, Dataset]] = queue.Queue()

    def take(event: Any) -> tuple[int, None]:
        heard.put((event.request.EventTypeID, _decode(event.request.EventInformation, event)))
        return 0, None

    said = request_for(reference(uid), reference("1.2.3.4"), reference(uid, "1.2.840.10008.5.1.4.1.1.4"))
    with Peer(live_server, COMMIT, handlers=[(evt.EVT_N_EVENT_REPORT, take)]) as modality:
        status, _ = modality.send_n_action(said, 1, COMMIT, StorageCommitmentPushModelInstance)
        event, result = heard.get(timeout=60)

    assert (status.Status, event, result.TransactionUID) == (0, 2, said.TransactionUID)
    assert [each.ReferencedSOPInstanceUID for each in result.ReferencedSOPSequence] == [uid]
    failed = [(each.ReferencedSOPInstanceUID, each.FailureReason) for each in result.FailedSOPSequence]
    assert failed == [("1.2.3.4", 0x0112), (uid, 0x0119)]


def test_commitment_is_delivered_to_a_node_again_until_it_is_taken(live_server: LiveServer) -> None:
    uid = stored(live_server, 94)
    listeners = listening(live_server, "CT_NODE", COMMIT)
    node = next(listeners)
    node.statuses = [0x0110]
    said = request_for(reference(uid))
    with Peer(live_server, COMMIT, title="CT_NODE") as modality:
        status, _ = modality.send_n_action(said, 1, COMMIT, StorageCommitmentPushModelInstance)
        assert status.Status == 0
    request, result = node.next()

    assert (request.EventTypeID, result.TransactionUID, result.RetrieveAETitle) == (
        1, said.TransactionUID, "CLOUDFILM",
    )  # fmt: skip
    next(listeners, None)


def test_a_commitment_request_that_makes_no_sense_is_refused(live_server: LiveServer) -> None:
    with Peer(live_server, COMMIT) as modality:

        def ask(said: Dataset, type_: int = 1, at: str = StorageCommitmentPushModelInstance) -> int:
            return int(modality.send_n_action(said, type_, COMMIT, at)[0].Status)

        assert ask(request_for(reference("1.2")), type_=2) == 0x0123
        assert ask(request_for(reference("1.2")), at="1.2.3") == 0x0112
        assert ask(request_for()) == 0x0106
        lacking = request_for(reference("1.2"))
        del lacking.TransactionUID
        assert ask(lacking) == 0x0106


def test_nodes_are_told_what_is_available_when_a_study_rests(live_server: LiveServer) -> None:
    listeners = listening(live_server, "RIS", InstanceAvailabilityNotification)
    ris = next(listeners)
    notices = live_server.data_dir / "availability.json"
    notices.write_text(json.dumps({"notices": [{"node": "RIS", "modalities": ["CT"]}]}))
    live_server.command("site", "set", "availability", str(notices))
    uid = stored(live_server, 95)
    while True:  # studies of other tests come to rest as well
        _, said = ris.next()
        if said.StudyInstanceUID == dataset(study=95).StudyInstanceUID:
            break

    (series,) = said.ReferencedSeriesSequence
    (instance,) = series.ReferencedSOPSequence
    assert (instance.ReferencedSOPInstanceUID, instance.InstanceAvailability, instance.RetrieveAETitle) == (
        uid, "ONLINE", "CLOUDFILM",
    )  # fmt: skip
    next(listeners, None)


@pytest.mark.parametrize("sop_class", [MPPS, UPS, COMMIT])
def test_garbage_in_place_of_a_data_set_is_refused_and_the_association_lives(
    live_server: LiveServer, sop_class: Any
) -> None:
    with Peer(live_server, sop_class) as peer:
        broken = Dataset()
        broken.add_new(0x00080005, "CS", "NO SUCH SET")
        for _ in range(2):
            if sop_class == COMMIT:
                status, _ = peer.send_n_action(broken, 1, COMMIT, StorageCommitmentPushModelInstance)
            else:
                status, _ = peer.send_n_create(broken, sop_class, generate_uid())
            assert status.Status in (0x0106, 0x0110, 0x0120)
        assert peer.is_established
