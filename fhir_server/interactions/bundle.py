"""FHIR batch and transaction (R4 3.1.0.11): several interactions in one request.

An entry of a batch is a request of its own, and is answered as one. A transaction happens whole or not at
all: criteria are resolved first, ids are given, references between entries are rewritten in the tree, and
then deletions, creations and changes are written by one statement for each table; what is read is read last.
"""

from flask import Response

from access.bearer import current_caller
from access.caller import Door
from fhir_server.interactions.batch import run_batch
from fhir_server.interactions.bundle_entry import InvalidBundle, parse_entries
from fhir_server.interactions.transaction import run_transaction
from fhir_server.negotiate import request_document, require_json
from kernel.errors import CloudfilmError, Kind
from kernel.http import room
from kernel.settings import Settings


class TooManyEntries(CloudfilmError):
    """More entries than one request may have."""

    kind = Kind.TOO_LARGE

    def __init__(self, most: int) -> None:
        super().__init__(f"A bundle may have {most} entries; send several.")


def process_bundle() -> Response:
    """Carry out a batch or a transaction."""
    require_json()
    caller = current_caller(Door.FHIR)
    bundle = request_document()
    if bundle["resourceType"] != "Bundle" or bundle.get("type") not in ("batch", "transaction"):
        raise InvalidBundle("send a Bundle of the type batch or transaction")
    most = room(Settings).fhir.max_entries
    if isinstance(bundle.get("entry"), list) and len(bundle["entry"]) > most:
        raise TooManyEntries(most)
    is_batch = bundle["type"] == "batch"
    entries = parse_entries(bundle, lenient=is_batch)
    return run_batch(entries, caller) if is_batch else run_transaction(entries, caller)
