"""$graphql on the server and on a resource (R4 Resource-graphql): queries, answered as GraphQL has it."""

import json
from typing import Any

from flask import Response, request

from access.bearer import current_caller
from access.caller import Action, Door
from fhir_server.graph import run_graph
from fhir_server.graph_query import Graph, InvalidGraph
from fhir_server.interactions.read import stored_or_shipped
from fhir_server.negotiate import JSON_TYPES, BodyNotSupported, fhir_base, request_body
from fhir_server.outcomes import outcome_of
from kernel.errors import CloudfilmError
from kernel.http import STATUS, room, with_challenge
from records.documents import document_text
from records.repository import require_type
from records.room import Records

MOST_TEXT = 65_536  # characters of a query


def query_server() -> Response:
    """Select of what is found and read anywhere."""
    return _answered("", "")


def query_resource(resource_type: str, logical_id: str) -> Response:
    """Select of one resource, and of what it refers to and what refers to it."""
    return _answered(resource_type, logical_id)


def _answered(resource_type: str, logical_id: str) -> Response:
    """`data`, or `errors` with an OperationOutcome in each; never application/fhir+json."""
    try:
        caller, records = current_caller(Door.FHIR), room(Records)
        if resource_type:
            require_type(resource_type)
            caller.require(Action(resource_type, "r"))
        asked = _asked()

        def read(type_: str, id_: str) -> Any:
            return stored_or_shipped(records, caller, type_, id_)

        on = read(resource_type, logical_id) if resource_type else None
        data = run_graph(records, caller, fhir_base(), read, asked, on)
    except CloudfilmError as refusal:
        error: dict[str, Any] = {"message": str(refusal), "extensions": {"resource": outcome_of(refusal)}}
        if isinstance(refusal, InvalidGraph) and refusal.locations:
            error["locations"] = refusal.locations
        return with_challenge(_json({"data": None, "errors": [error]}, STATUS[refusal.kind]), refusal)
    return _json({"data": data}, 200)


def _json(content: dict[str, Any], status: int) -> Response:
    return Response(document_text(content), status, content_type="application/json; charset=utf-8")


def _asked() -> Graph:
    """The query: in the URL, or as the body, alone or in JSON with its variables."""
    said: dict[str, Any] = dict(request.args)
    if request.method == "POST" and request.mimetype == "application/graphql":
        said["query"] = request_body().decode(errors="replace")
    elif request.method == "POST":
        if request.mimetype not in JSON_TYPES:
            raise BodyNotSupported
        said |= _body()
    if isinstance(variables := said.get("variables") or {}, str):
        variables = _parsed(variables)
    query, operation = said.get("query"), said.get("operationName") or ""
    if not (isinstance(query, str) and isinstance(variables, dict) and isinstance(operation, str)):
        raise InvalidGraph("Send a query, and where it needs them variables and operationName.")
    if len(query) > MOST_TEXT:
        raise InvalidGraph(f"A query may have {MOST_TEXT} characters.")
    return Graph(query, variables, operation)


def _body() -> dict[str, Any]:
    """A JSON body: GraphQL's own, or Parameters with a query."""
    body = _parsed(request_body())
    if not isinstance(body, dict):
        raise InvalidGraph("The body is no JSON object.")
    if body.get("resourceType") != "Parameters":
        return body
    given = [each for each in body.get("parameter") or () if isinstance(each, dict)]
    return {str(each.get("name")): each.get("valueString") for each in given}


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidGraph("The JSON cannot be read.") from None
