"""The rows of the other services of PS3.18: URI (9), Worklist (11) and Non-Patient Instance (12)."""

import json

import requests

from conformance.dicomweb.rows import DICOM, JSON, XML, row, rows_of, status_is
from conformance.dicomweb.target import (
    Target,
    body_of,
    expect,
    new_uid,
    non_patient_objects,
    presentation_state,
)

# -- by parameters (9) --------------------------------------------------------------------------------------


def _uri(target: Target, instance: str = "", **more: str) -> str:
    instance = instance or target.instances[0]
    _, study, _, series, _, uid = target.of(instance).strip("/").split("/")
    named = {"requestType": "WADO", "studyUID": study, "seriesUID": series, "objectUID": uid, **more}
    return "/wado?" + "&".join(f"{name}={value}" for name, value in named.items())


@row("9.4.1", "WADO-URI: an instance as application/dicom, by default in Explicit VR Little Endian")
def uri_object(target: Target) -> None:
    answer = target.get(_uri(target, contentType="application/dicom"))
    status_is(answer, 200)
    expect(answer.content[128:132] == b"DICM", "no Part 10 object")
    expect(b"1.2.840.10008.1.2.1\0" in answer.content[:400], "another transfer syntax")


@row("9.4.1.2.1", "WADO-URI: anonymize takes out what identifies")
def uri_anonymize(target: Target) -> None:
    answer = target.get(_uri(target, contentType="application/dicom", anonymize="yes"))
    status_is(answer, 200)
    expect(target.patient_id.encode() not in answer.content, "the Patient ID is still there")


@row("9.4.1.2.2", "WADO-URI: transferSyntax")
def uri_syntax(target: Target) -> None:
    syntax = "1.2.840.10008.1.2.4.80"
    answer = target.get(_uri(target, contentType="application/dicom", transferSyntax=syntax))
    status_is(answer, 200)
    expect(syntax.encode() in answer.content[:1024], "another transfer syntax")


for _name, _more, _type in (
    ("an image as image/jpeg by default", {}, "image/jpeg"),
    ("contentType=image/png", {"contentType": "image/png"}, "image/png"),
    ("rows and columns", {"rows": "8", "columns": "8"}, "image/jpeg"),
    ("region", {"region": "0.0,0.0,0.5,0.5"}, "image/jpeg"),
    ("windowCenter and windowWidth", {"windowCenter": "2000", "windowWidth": "100"}, "image/jpeg"),
    ("imageQuality", {"imageQuality": "50"}, "image/jpeg"),
    ("annotation", {"annotation": "patient,technique"}, "image/jpeg"),
    ("iccprofile", {"iccprofile": "srgb"}, "image/jpeg"),
    ("charset", {"charset": "utf-8"}, "image/jpeg"),
):

    def _check_uri(target: Target, more: dict[str, str] = _more, media_type: str = _type) -> None:
        answer = target.get(_uri(target, **more))
        status_is(answer, 200)
        expect(answer.headers.get("Content-Type", "").startswith(media_type), answer.headers)

    row("9.5.1", f"WADO-URI: {_name}")(_check_uri)


@row("9.5.1.2.3", "WADO-URI: frameNumber, and 404 or 400 for a frame that there is not")
def uri_frame(target: Target) -> None:
    status_is(target.get(_uri(target, target.frames_instance, frameNumber="2")), 200)
    status_is(target.get(_uri(target, target.frames_instance, frameNumber="9")), 400, 404)


@row("9.5.1.2.6", "WADO-URI: presentationUID draws the image as a presentation state shows it")
def uri_presentation(target: Target) -> None:
    body, content_type = body_of([presentation_state(target)])
    status_is(target.ask("POST", "/studies", JSON, data=body, headers={"Content-Type": content_type}), 200)
    shown = {"presentationUID": target.presentation_instance,
             "presentationSeriesUID": target.presentation_series, "contentType": "image/png"}  # fmt: skip
    drawn, plain = target.get(_uri(target, **shown)), target.get(_uri(target, contentType="image/png"))
    status_is(drawn, 200)
    expect(drawn.content != plain.content, "the image looks as it does without it")


@row("9.1.2", "WADO-URI: without requestType or UIDs it is 400, of nothing 404, as a type there is not 406")
def uri_refused(target: Target) -> None:
    status_is(target.get(f"/wado?studyUID={target.study}"), 400)
    status_is(target.get(_uri(target, objectUID=new_uid())), 404)
    status_is(target.get(_uri(target, contentType="audio/basic")), 406)


# -- worklist (11) ------------------------------------------------------------------------------------------


def _workitem(target: Target) -> dict[str, object]:
    code = {"00080100": {"vr": "SH", "Value": ["110005"]}, "00080102": {"vr": "SH", "Value": ["DCM"]},
            "00080104": {"vr": "LO", "Value": ["Interpretation"]}}  # fmt: skip
    said: dict[str, tuple[str, list[object]]] = {
        "00100010": ("PN", [{"Alphabetic": "Check^Web"}]), "00100020": ("LO", [target.patient_id]),
        "00100030": ("DA", ["19800102"]), "00100040": ("CS", ["O"]), "00380010": ("LO", []),
        "00380014": ("SQ", []), "00081080": ("LO", []), "00081084": ("SQ", []), "0040A370": ("SQ", []),
        "00404005": ("DT", ["20240229101112"]), "00404018": ("SQ", [code]), "00404021": ("SQ", []),
        "00404025": ("SQ", []), "00404026": ("SQ", []), "00404027": ("SQ", []), "00404034": ("SQ", []),
        "00404041": ("CS", ["READY"]), "00741000": ("CS", ["SCHEDULED"]), "00741200": ("CS", ["MEDIUM"]),
        "00741202": ("LO", ["Check"]), "00741204": ("LO", ["Check"]), "00741210": ("SQ", []),
        "00400400": ("LT", []), "00741224": ("SQ", []), "0020000D": ("UI", [target.study]),
    }  # fmt: skip
    return {
        tag: {"vr": vr, **({"Value": values} if values else {})} for tag, (vr, values) in sorted(said.items())
    }


def _send(target: Target, method: str, path: str, body: object | None = None) -> requests.Response:
    data = b"" if body is None else json.dumps([body]).encode()
    return target.ask(method, path, JSON, data=data, headers={"Content-Type": JSON})


def _change_state(target: Target, state: str, transaction: str) -> requests.Response:
    body = {"00081195": {"vr": "UI", "Value": [transaction]}, "00741000": {"vr": "CS", "Value": [state]}}
    return _send(target, "PUT", f"/workitems/{target.workitem}/state", body)


@row("11.4", "Worklist: a workitem is created under its UID, and told of by Location")
def create_workitem(target: Target) -> None:
    answer = _send(target, "POST", f"/workitems?workitem={target.workitem}", _workitem(target))
    status_is(answer, 201)
    expect(answer.headers.get("Location", "").endswith(target.workitem), answer.headers.get("Location"))
    status_is(_send(target, "POST", f"/workitems?workitem={target.workitem}", _workitem(target)), 409)


@row("11.5", "Worklist: a workitem is retrieved as JSON and XML; one that there is not is 404")
def retrieve_workitem(target: Target) -> None:
    found = target.get(f"/workitems/{target.workitem}", JSON).json()
    found = found[0] if isinstance(found, list) else found
    expect(found["00741000"]["Value"] == ["SCHEDULED"], found["00741000"])
    expect(b"NativeDicomModel" in target.get(f"/workitems/{target.workitem}", XML).content, "no XML")
    status_is(target.get(f"/workitems/{new_uid()}", JSON), 404)


@row("11.6", "Worklist: a workitem is updated, and only by who performs it once it is in progress")
def update_workitem(target: Target) -> None:
    label, path = {"00741202": {"vr": "LO", "Value": ["Changed"]}}, f"/workitems/{target.workitem}"
    status_is(_send(target, "POST", path, label), 200)
    status_is(_change_state(target, "IN PROGRESS", target.transaction), 200)
    status_is(_send(target, "POST", path, label), 400)
    status_is(_send(target, "POST", f"{path}?transaction-uid={target.transaction}", label), 200)


@row("11.7", "Worklist: a change of state that the state does not allow is 409, without its UID 400")
def change_workitem(target: Target) -> None:
    status_is(_change_state(target, "IN PROGRESS", new_uid()), 400, 409)
    status_is(_change_state(target, "COMPLETED", new_uid()), 400, 409)
    status_is(_change_state(target, "CANCELED", target.transaction), 200, 409)


@row("11.8", "Worklist: cancellation of what nobody performs is accepted")
def cancel_workitem(target: Target) -> None:
    uid = new_uid()
    status_is(_send(target, "POST", f"/workitems?workitem={uid}", _workitem(target)), 201)
    status_is(_send(target, "POST", f"/workitems/{uid}/cancelrequest"), 202)


@row("11.9", "Worklist: search by keyword, by tag and within a sequence")
def search_workitems(target: Target) -> None:
    named = f"PatientID={target.patient_id}"
    within = f"{named}&ScheduledWorkitemCodeSequence.CodeValue=110005"
    for query in (named, f"00100020={target.patient_id}", within):
        expect(len(rows_of(target, f"/workitems?{query}")) == 2, query)
    expect(rows_of(target, "/workitems?PatientID=NOBODY-AT-ALL") == [], "what does not match was found")


@row("11.10", "Worklist: subscription to one workitem and to all, suspended and ended")
def subscribe(target: Target) -> None:
    everything = "1.2.840.10008.5.1.4.34.5"
    for uid in (target.workitem, everything):
        answer = _send(target, "POST", f"/workitems/{uid}/subscribers/CHECKER")
        status_is(answer, 201)
        channel = answer.headers.get("Content-Location", "")
        expect(channel.startswith(("ws://", "wss://")), f"Content-Location {channel}")
    status_is(_send(target, "POST", f"/workitems/{everything}/subscribers/CHECKER/suspend"), 200)
    for uid in (target.workitem, everything):
        status_is(_send(target, "DELETE", f"/workitems/{uid}/subscribers/CHECKER"), 200)


# -- non-patient instances (12) ---------------------------------------------------------------------------


@row("12.5", "Non-patient instances: a hanging protocol and a color palette are stored")
def store_non_patient(target: Target) -> None:
    for category, data in non_patient_objects(target).items():
        body, content_type = body_of([data])
        answer = target.ask("POST", f"/{category}", JSON, data=body, headers={"Content-Type": content_type})
        status_is(answer, 200)
        expect("00081199" in answer.json(), answer.text)


@row("12.5", "Non-patient instances: one of another category is refused")
def store_non_patient_elsewhere(target: Target) -> None:
    body, content_type = body_of([non_patient_objects(target)["hanging-protocols"]])
    answer = target.ask("POST", "/color-palettes", JSON, data=body, headers={"Content-Type": content_type})
    status_is(answer, 400, 409)


@row("12.6", "Non-patient instances: search by attribute, by UID, within a sequence, with includefield")
def search_non_patient(target: Target) -> None:
    for query, count in (
        (f"HangingProtocolName={target.protocol_name}", 1),
        (f"SOPInstanceUID={target.protocol_instance}", 1),
        (f"HangingProtocolDefinitionSequence.Modality=CT&HangingProtocolName={target.protocol_name[:9]}*", 1),
        ("HangingProtocolName=NO-SUCH", 0),
    ):
        found = rows_of(target, f"/hanging-protocols?{query}&includefield=NumberOfScreens")
        expect(len(found) == count, f"{query}: {len(found)} results where {count} are due")
        expect(all("00720100" in each for each in found), "includefield is not honoured")


@row("12.4", "Non-patient instances: retrieve as application/dicom, JSON and XML")
def retrieve_non_patient(target: Target) -> None:
    path = f"/hanging-protocols/{target.protocol_instance}"
    expect(target.get(path, DICOM).content == non_patient_objects(target)["hanging-protocols"], "other bytes")
    (metadata,) = target.get(path, JSON).json()
    expect(metadata["00720002"]["Value"] == [target.protocol_name], metadata["00720002"])
    expect(b"NativeDicomModel" in target.get(path, XML).content, "no Native DICOM Model")


@row("12.4", "Non-patient instances: what is not there is 404, of another media type 406")
def retrieve_no_non_patient(target: Target) -> None:
    status_is(target.get(f"/hanging-protocols/{new_uid()}"), 404)
    status_is(target.get(f"/color-palettes/{target.protocol_instance}"), 404)
    status_is(target.get(f"/hanging-protocols/{target.protocol_instance}", "image/jpeg"), 406)


@row("12.6", "Non-patient instances: every category answers a search")
def search_categories(target: Target) -> None:
    for name in ("color-palettes", "defined-procedure-protocols", "hanging-protocols", "implant-templates",
                 "inventories", "protocol-approvals"):  # fmt: skip
        status_is(target.get(f"/{name}?limit=1", JSON), 200, 204)
