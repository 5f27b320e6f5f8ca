"""Every object that some row of the archive names: what copies, scrubbing and the sweeper go by."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from archive.model import Hold, Instance
from archive.non_patient_model import NonPatientInstance
from archive.removal_model import RemovedInstance
from kernel.crypto import Seal

Naming = type[Instance] | type[Hold] | type[RemovedInstance] | type[NonPatientInstance]

NAMING: dict[str, Naming] = {
    "instance": Instance,
    "hold": Hold,
    "removed": RemovedInstance,
    "non-patient": NonPatientInstance,
}  # tables whose rows name an object, with its digest


@dataclass(frozen=True, slots=True)
class Kept:
    """An object that is kept, as its row has it."""

    id: int
    sop_instance_uid: str
    key: str
    seal: Seal
    sha256: bytes


def kept_after(session: Session, table: str, row_id: int, most: int) -> Sequence[Kept]:
    """The next objects that a table names, in the order of its rows."""
    model = NAMING[table]
    rows = session.execute(
        select(model.id, model.sop_instance_uid, model.blob_key, model.seal, model.sha256)
        .where(model.id > row_id)
        .order_by(model.id)
        .limit(most)
    )
    return [Kept(row[0], row[1], row[2], Seal.unpack(row[3]), row[4]) for row in rows]
