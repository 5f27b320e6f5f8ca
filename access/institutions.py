"""Institutions: the members of a consortium, and who gave the Patient IDs that name nobody."""

from collections.abc import Sequence

from sqlalchemy import select

from access.audit import note
from access.caller import Action, Caller
from access.model import Institution
from access.tokens import Access
from kernel.errors import CloudfilmError, Kind

READ_SETTING, UPDATE_SETTING = Action("Setting", "r"), Action("Setting", "u")


class InvalidInstitution(CloudfilmError):
    """A code, name or issuer that cannot be kept."""

    kind = Kind.UNPROCESSABLE

    def __init__(self) -> None:
        super().__init__("A code has 1 to 32 characters, a name at most 200, an issuer at most 64.")


def institutions(access: Access, caller: Caller) -> Sequence[Institution]:
    """All that something is said of. Raises Forbidden."""
    caller.require(READ_SETTING)
    with access.database.snapshot() as session:
        return session.scalars(select(Institution).order_by(Institution.code)).all()


def set_institution(
    access: Access, caller: Caller, code: str, name: str | None, patient_id_issuer: str | None
) -> None:
    """Say what an institution is called, and who gave its Patient IDs that name no issuer; None: as it was.

    What has come already stays with the issuer that it came under. Raises InvalidInstitution or Forbidden.
    """
    caller.require(UPDATE_SETTING)
    if not 0 < len(code) <= 32 or len(name or "") > 200 or len(patient_id_issuer or "") > 64:
        raise InvalidInstitution
    with access.database.transaction() as session:
        row = session.get(Institution, code, with_for_update=True)
        if row is None:
            row = Institution(code=code, name="", patient_id_issuer="")
            session.add(row)
        row.name = row.name if name is None else name
        row.patient_id_issuer = row.patient_id_issuer if patient_id_issuer is None else patient_id_issuer
        session.flush()
        detail = f"patient_id_issuer {row.patient_id_issuer or code}"
        note(session, access.clock, caller, "change institution", f"Institution/{code}", detail=detail)
