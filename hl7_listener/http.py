"""The same messages over HTTP: HL7 v2 as it is, plain JSON and XML, and SOAP.

`POST /hl7` takes a message (HL7 v2 over HTTP, application/hl7-v2) and answers with its acknowledgement;
`POST /hl7/plain/{request}` takes a plain patient, order, report or status; `/hl7/soap` is a SOAP 1.1 service
with the operations SendMessage and Submit, described at `/hl7/soap?wsdl`.
"""

import json
import re
from contextlib import suppress
from typing import Any
from xml.sax.saxutils import escape as escape_xml

from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]
from flask import Blueprint, Response, current_app, request

from access.bearer import current_caller, open_to_all
from access.caller import Door
from hl7_listener.er7 import CHARACTER_SETS, decode, encode, parse
from hl7_listener.plain import MESSAGE_TYPES, InvalidRequest, fields_of, to_message
from hl7_listener.receiving import SEND, Answer, receive
from hl7_listener.room import Hl7, hl7_of
from kernel.errors import CloudfilmError, Kind
from kernel.http import STATUS, base_url

blp = Blueprint("hl7", __name__)

ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"
NAMESPACE = "urn:cloudfilm:hl7"
TEXTS = frozenset({"utf-8", "gb18030", "big5"})  # that are decoded here
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
XML_ENCODING = re.compile(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")


class MessageTooLarge(CloudfilmError):
    """A body that is larger than the setting `mllp.max_message_bytes`."""

    kind = Kind.TOO_LARGE


@blp.post("/hl7")
def take_message() -> Response:
    """Take one HL7 v2 message or a batch; the answer is its acknowledgement."""
    answer = receive(_door(), current_caller(Door.HL7), _body())
    return Response(b"".join(answer.messages), mimetype="application/hl7-v2")


@blp.post("/hl7/plain/<request_name>")
def take_plain(request_name: str) -> Response:
    """Take a plain request as JSON or XML; the answer is in the same form."""
    is_xml = "xml" in (request.mimetype or "")
    values = _values_of_xml(_body()) if is_xml else _values_of_json(_body())
    result = _submit(request_name, values)
    status = 200 if result["accepted"] else STATUS[Kind.UNPROCESSABLE]
    if is_xml:
        return Response(_xml_result(result), status, mimetype="application/xml")
    return Response(json.dumps(result, ensure_ascii=False), status, mimetype="application/json")


@blp.get("/hl7/openapi.json")
@open_to_all
def describe() -> Response:
    """The plain door as OpenAPI 3.1, drawn from the table of fields."""
    paths = {f"/hl7/plain/{name}": {"post": _operation(name)} for name in MESSAGE_TYPES}
    document = {
        "openapi": "3.1.0",
        "info": {"title": "cloudfilm: patients, orders, reports and states", "version": "1"},
        "servers": [{"url": base_url("")}],
        "paths": paths,
        "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        "security": [{"bearer": []}],
    }
    return Response(json.dumps(document, ensure_ascii=False), mimetype="application/json")


@blp.get("/hl7/soap")
@open_to_all
def wsdl() -> Response:
    """The WSDL of the SOAP service."""
    return Response(WSDL.replace("LOCATION", f"{base_url('')}/hl7/soap"), mimetype="text/xml")


@blp.post("/hl7/soap")
@open_to_all
def take_soap() -> Response:
    """SOAP 1.1: SendMessage (an HL7 v2 message as text) or Submit (a plain request as XML).

    It settles who asks itself, for a refusal is a SOAP fault too.
    """
    try:
        caller = current_caller(Door.HL7)
        name, text = _operation_of(_body())
        if name == "SendMessage":
            answer = receive(_door(), caller, encode(text))
            inner = "".join(decode(each)[0] for each in answer.messages).replace("\r", "\n")
        else:
            root = _parse_xml(text)
            inner = _xml_result(_submit(_local(root.tag), _values(root)))
    except CloudfilmError as refused:
        code = "Server" if refused.kind is Kind.FAULT else "Client"
        fault = f"<soap:Fault><faultcode>soap:{code}</faultcode><faultstring>{escape_xml(str(refused))}"
        return _envelope(f"{fault}</faultstring></soap:Fault>", 500)
    return _envelope(
        f'<h:{name}Response xmlns:h="{NAMESPACE}"><h:answer>{escape_xml(inner)}</h:answer></h:{name}Response>'
    )


def _door() -> Hl7:
    """The door's bundle, made once for a process."""
    parts: dict[type[Any], Any] = current_app.extensions["cloudfilm"]
    found = current_app.extensions.get("hl7")
    if not isinstance(found, Hl7):
        found = current_app.extensions["hl7"] = hl7_of(parts)
    return found


def _body() -> bytes:
    most = _door().settings.max_message_bytes
    if (request.content_length or 0) > most:
        raise MessageTooLarge(f"A message may have {most} bytes.")
    body = request.stream.read(most + 1)
    if len(body) > most:
        raise MessageTooLarge(f"A message may have {most} bytes.")
    return body


def _submit(request_name: str, values: dict[str, str]) -> dict[str, Any]:
    """Turn a plain request into a message, and its answer into a plain result."""
    caller = current_caller(Door.HL7)
    caller.require(SEND)
    door = _door()
    raw = to_message(request_name, values, caller.principal.id[:32], door.clock.now())
    return _result(receive(door, caller, raw))


def _result(answer: Answer) -> dict[str, Any]:
    acknowledged = parse(answer.messages[-1])
    error = acknowledged.first("ERR")
    result: dict[str, Any] = {"accepted": answer.is_positive, "code": acknowledged.first("MSA").get(1)}
    if not answer.is_positive:
        result["reason"] = error.get(8) or error.get(3, 2)
    order = acknowledged.first("ORC")
    if order.fields:
        result["accessionNumber"] = acknowledged.first("OBR").get(18) or order.get(3)
    return result


def _values_of_json(body: bytes) -> dict[str, str]:
    try:
        values = json.loads(_characters(body))
    except (ValueError, RecursionError):
        raise InvalidRequest("The body is not JSON.") from None
    if not isinstance(values, dict):
        raise InvalidRequest("The body is not a JSON object.")
    if not all(isinstance(value, str | int) for value in values.values()):
        raise InvalidRequest("Every field is a text.")
    return {str(name): str(value) for name, value in values.items()}


def _values_of_xml(body: bytes) -> dict[str, str]:
    return _values(_parse_xml(body))


def _characters(body: bytes) -> str | bytes:
    """A body in UTF-8, GB 18030 (GBK, GB 2312) or Big5 as text, for parsers do not read the latter; any
    other as it is.

    HTTP's charset goes before what XML declares of itself (RFC 7303, 3); where nothing is said and it is no
    UTF-8, it is GB 18030.
    """
    declared = XML_ENCODING.match(body)
    said = (request.mimetype_params.get("charset", ""), declared[1].decode() if declared else "")
    names = [name for name in said if name] or ["UTF-8", "" if body.startswith(UTF_16) else "GB18030"]
    for charset in (CHARACTER_SETS.get(name.upper()) for name in names if name):
        if charset in TEXTS:
            with suppress(UnicodeDecodeError):
                return body.decode(charset).removeprefix("\ufeff")
    return body


def _parse_xml(body: bytes | str) -> Any:
    """Text is taken as it is, whatever encoding it declares: it has none any more."""
    try:
        return fromstring(_characters(body) if isinstance(body, bytes) else body)
    except (DefusedXmlException, SyntaxError, ValueError):
        raise InvalidRequest("The body is not XML that can be accepted.") from None


def _values(root: Any) -> dict[str, str]:
    return {_local(child.tag): (child.text or "").strip() for child in root if (child.text or "").strip()}


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _operation_of(body: bytes) -> tuple[str, str]:
    """The name and the one text of a SOAP request. Raises InvalidRequest."""
    root = _parse_xml(body)
    inner = root.find(f"{{{ENVELOPE}}}Body")
    operation = next(iter(inner), None) if inner is not None else None
    name = _local(operation.tag) if operation is not None else ""
    if operation is None or name not in ("SendMessage", "Submit") or len(operation) != 1:
        raise InvalidRequest("The operation is SendMessage or Submit, with one text.")
    text = operation[0].text or ""
    return name, text.strip().replace("\r\n", "\n").replace("\n", "\r") if name == "SendMessage" else text


def _xml_result(result: dict[str, Any]) -> str:
    shown = {name: str(value).lower() if isinstance(value, bool) else value for name, value in result.items()}
    inner = "".join(f"<{name}>{escape_xml(str(value))}</{name}>" for name, value in shown.items())
    return f"<response>{inner}</response>"


def _envelope(inner: str, status: int = 200) -> Response:
    text = f'<soap:Envelope xmlns:soap="{ENVELOPE}"><soap:Body>{inner}</soap:Body></soap:Envelope>'
    return Response(text, status, mimetype="text/xml")


def _operation(name: str) -> dict[str, Any]:
    fields = fields_of(name)
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {field.name: {"type": "string", "description": field.meaning} for field in fields},
        "required": [field.name for field in fields if field.required],
    }
    result = {
        "type": "object",
        "properties": {
            "accepted": {"type": "boolean"},
            "code": {"type": "string", "description": "MSA-1: AA, AE or AR"},
            "reason": {"type": "string"},
            "accessionNumber": {"type": "string"},
        },
    }
    bodies = {kind: {"schema": schema} for kind in ("application/json", "application/xml")}
    answer = {"content": {"application/json": {"schema": result}}}
    return {
        "summary": f"Submit a {name}",
        "requestBody": {"required": True, "content": bodies},
        "responses": {
            "200": {"description": "Accepted", **answer},
            "422": {"description": "Kept, and it could not be used; `reason` says why", **answer},
        },
    }


WSDL = f"""<?xml version="1.0" encoding="UTF-8"?>
<definitions name="Hl7" targetNamespace="{NAMESPACE}" xmlns="http://schemas.xmlsoap.org/wsdl/"
 xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:xsd="http://www.w3.org/2001/XMLSchema"
 xmlns:h="{NAMESPACE}">
 <types><xsd:schema targetNamespace="{NAMESPACE}" elementFormDefault="qualified">
  <xsd:element name="SendMessage"><xsd:complexType><xsd:sequence>
   <xsd:element name="message" type="xsd:string"/></xsd:sequence></xsd:complexType></xsd:element>
  <xsd:element name="SendMessageResponse"><xsd:complexType><xsd:sequence>
   <xsd:element name="answer" type="xsd:string"/></xsd:sequence></xsd:complexType></xsd:element>
  <xsd:element name="Submit"><xsd:complexType><xsd:sequence>
   <xsd:element name="request" type="xsd:string"/></xsd:sequence></xsd:complexType></xsd:element>
  <xsd:element name="SubmitResponse"><xsd:complexType><xsd:sequence>
   <xsd:element name="answer" type="xsd:string"/></xsd:sequence></xsd:complexType></xsd:element>
 </xsd:schema></types>
 <message name="SendMessageIn"><part name="parameters" element="h:SendMessage"/></message>
 <message name="SendMessageOut"><part name="parameters" element="h:SendMessageResponse"/></message>
 <message name="SubmitIn"><part name="parameters" element="h:Submit"/></message>
 <message name="SubmitOut"><part name="parameters" element="h:SubmitResponse"/></message>
 <portType name="Hl7PortType">
  <operation name="SendMessage">
   <input message="h:SendMessageIn"/><output message="h:SendMessageOut"/></operation>
  <operation name="Submit"><input message="h:SubmitIn"/><output message="h:SubmitOut"/></operation>
 </portType>
 <binding name="Hl7Binding" type="h:Hl7PortType">
  <soap:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>
  <operation name="SendMessage"><soap:operation soapAction="{NAMESPACE}:SendMessage"/>
   <input><soap:body use="literal"/></input><output><soap:body use="literal"/></output></operation>
  <operation name="Submit"><soap:operation soapAction="{NAMESPACE}:Submit"/>
   <input><soap:body use="literal"/></input><output><soap:body use="literal"/></output></operation>
 </binding>
 <service name="Hl7Service"><port name="Hl7Port" binding="h:Hl7Binding">
  <soap:address location="LOCATION"/></port></service>
</definitions>
"""
