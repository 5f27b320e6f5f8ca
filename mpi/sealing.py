"""What a record says, sealed in its row: the index shows no name, number or phone in the clear."""

from typing import Any

import orjson

from kernel.crypto import KeyRing
from mpi.demographics import Authority, Demographics, from_plain, to_plain
from mpi.model import PatientRecord
from mpi.room import Mpi

SEALED = "patient_record.sealed"


def seal(keys: KeyRing, said: Demographics) -> bytes:
    """For PatientRecord.sealed."""
    return keys.seal_bytes(orjson.dumps(to_plain(said)), SEALED)


def demographics_of(mpi: Mpi, row: PatientRecord | Any) -> Demographics:
    """What a record says; `row` has its columns."""
    plain = orjson.loads(mpi.keys.open_bytes(row.sealed, SEALED))
    return from_plain(plain, row.issuer, row.identifier, row.institution, row.authority)


def open_sealed(keys: KeyRing, sealed: bytes, issuer: str, identifier: str) -> Demographics:
    """What the record of a number says, without whose word it is."""
    return from_plain(orjson.loads(keys.open_bytes(sealed, SEALED)), issuer, identifier, "", Authority.IMAGE)
