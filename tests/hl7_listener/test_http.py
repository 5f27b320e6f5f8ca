"""The same messages by HTTP, JSON, XML and SOAP."""

import json
from typing import Any

import pytest
from flask import g
from flask.testing import FlaskClient
from sqlalchemy import select

from access.caller import Caller
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from mpi.model import PatientRecord
from mpi.sealing import demographics_of
from tests.builders_hl7 import PID, adt_a04
from tests.hl7_listener.conftest import code_of

ORDER = {"patientId": "P7", "name": "李^娜", "sex": "女", "birthDate": "1990-02-03", "orderNumber": "O7",
         "procedureCode": "CT01", "procedure": "头部CT", "modality": "CT"}  # fmt: skip


@pytest.fixture
def client(rooms: Rooms, operator: Caller, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """A client of the web application, known as the operator."""
    app = create_app(rooms)

    @app.before_request
    def known() -> None:
        g.caller = operator

    app.before_request_funcs[None].insert(0, app.before_request_funcs[None].pop())
    return app.test_client()


def submit(client: FlaskClient, name: str, values: dict[str, str]) -> tuple[int, dict[str, Any]]:
    answer = client.post(f"/hl7/plain/{name}", json=values)
    return answer.status_code, json.loads(answer.data)


def test_a_message_is_answered_with_its_acknowledgement(client: FlaskClient) -> None:
    answer = client.post("/hl7", data=adt_a04(), content_type="application/hl7-v2")
    assert (answer.status_code, code_of(answer.data)) == (200, "AA")


def test_an_order_a_status_and_a_report_come_as_json(client: FlaskClient) -> None:
    status, placed = submit(client, "order", ORDER)
    assert (status, placed["accepted"]) == (200, True)
    assert len(placed["accessionNumber"]) == 16
    assert submit(client, "status", {"patientId": "P7", "orderNumber": "O7", "status": "completed"})[0] == 200
    report = {"patientId": "P7", "orderNumber": "O7", "reportNumber": "R7", "findings": "未见异常 & 其他"}
    assert submit(client, "report", report)[1] == {"accepted": True, "code": "AA"}


def test_what_cannot_be_used_says_why(client: FlaskClient) -> None:
    status, refused = submit(
        client, "status", {"patientId": "P7", "orderNumber": "none", "status": "completed"}
    )
    assert (status, refused["accepted"]) == (422, False)
    assert "no order" in refused["reason"]
    assert submit(client, "order", {"name": "x"})[0] == 400
    assert submit(client, "order", {**ORDER, "colour": "red"})[0] == 400
    assert submit(client, "nonsense", {})[0] == 400


def test_a_plain_request_comes_as_xml_and_no_entity_is_resolved(client: FlaskClient) -> None:
    body = "<patient><patientId>P8</patientId><name>王芳</name></patient>".encode()
    answer = client.post("/hl7/plain/patient", data=body, content_type="application/xml")
    assert b"<accepted>true</accepted>" in answer.data
    bomb = (
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><patient><patientId>&x;</patientId></patient>'
    )
    assert client.post("/hl7/plain/patient", data=bomb, content_type="application/xml").status_code == 400


def test_the_soap_service_takes_both_and_describes_itself(client: FlaskClient) -> None:
    envelope = (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{}</s:Body></s:Envelope>'
    )
    text = adt_a04().decode().replace("&", "&amp;").replace("\r", "\n")
    message = f'<h:SendMessage xmlns:h="urn:cloudfilm:hl7"><h:message>{text}</h:message></h:SendMessage>'
    answer = client.post("/hl7/soap", data=envelope.format(message).encode(), content_type="text/xml")
    assert "MSA|AA" in answer.get_data(as_text=True)
    request = "<![CDATA[<patient><patientId>P9</patientId></patient>]]>"
    submitted = f'<h:Submit xmlns:h="urn:cloudfilm:hl7"><h:request>{request}</h:request></h:Submit>'
    answer = client.post("/hl7/soap", data=envelope.format(submitted).encode(), content_type="text/xml")
    assert "accepted&gt;true" in answer.get_data(as_text=True)
    assert client.post("/hl7/soap", data=b"<nonsense/>", content_type="text/xml").status_code == 500
    assert b"SendMessage" in client.get("/hl7/soap?wsdl").data


@pytest.mark.parametrize("declared", ["GBK", "gb2312", "GB18030", "UTF-8", ""])
def test_chinese_xml_is_read_in_the_encoding_that_it_declares(client: FlaskClient, declared: str) -> None:
    """What HIS vendors send is seldom UTF-8; the parser itself reads none of the Chinese encodings."""
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    text = f"{head}<order><patientId>P8</patientId><orderNumber>无</orderNumber></order>"
    raw = text.encode("utf-8" if declared == "UTF-8" else "gb18030")
    answer = client.post("/hl7/plain/order", data=raw, content_type="application/xml")
    assert b"<accepted>true</accepted>" in answer.data
    wrapped = soap(f"<h:Submit><h:request><![CDATA[{text}]]></h:request></h:Submit>")
    answer = client.post("/hl7/soap", data=wrapped.encode(), content_type="text/xml")
    assert "accepted&gt;true" in answer.get_data(as_text=True)
    body = json.dumps({"patientId": "P8", "name": "王芳"}, ensure_ascii=False).encode("gb18030")
    answer = client.post("/hl7/plain/patient", data=body, content_type="application/json; charset=gbk")
    assert answer.json is not None
    assert answer.json["accepted"] is True


def test_a_message_within_soap_has_its_characters_whatever_its_msh_18_says(
    client: FlaskClient, rooms: Rooms
) -> None:
    names = PID.replace("1001", "S1").replace("张^伟", "张三^丰乐")
    text = adt_a04(names, charset="GB 18030-2000").decode("gb18030").replace("&", "&amp;").replace("\r", "\n")
    wrapped = soap(f"<h:SendMessage><h:message>{text}</h:message></h:SendMessage>")
    answer = client.post("/hl7/soap", data=wrapped.encode(), content_type="text/xml")
    assert "MSA|AA" in answer.get_data(as_text=True)
    with rooms.database.snapshot() as session:
        row = session.scalars(select(PatientRecord).where(PatientRecord.identifier == "S1")).one()
    assert "张三^丰乐" in demographics_of(rooms.mpi, row).name


def soap(operation: str) -> str:
    envelope = '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:h="urn:cloudfilm:hl7">'
    return f"{envelope}<s:Body>{operation}</s:Body></s:Envelope>"


def test_every_field_is_described(client: FlaskClient) -> None:
    described = json.loads(client.get("/hl7/openapi.json").data)
    schema = described["paths"]["/hl7/plain/order"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    assert set(ORDER) <= set(schema["properties"])
    assert schema["required"] == ["patientId"]


def test_nobody_unknown_may_send(rooms: Rooms) -> None:
    assert create_app(rooms).test_client().post("/hl7", data=adt_a04()).status_code == 401
