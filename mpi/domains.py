"""Identifier domains: what an issuer's code is called elsewhere."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from access.caller import Action, Caller
from mpi.model import IdentifierDomain
from mpi.room import Mpi


def systems(session: Session) -> dict[str, str]:
    """The FHIR identifier system of each registered issuer."""
    return dict(session.execute(select(IdentifierDomain.issuer, IdentifierDomain.system)).all())


def register_domain(
    mpi: Mpi, caller: Caller, issuer: str, system: str, oid: str = "", name: str = ""
) -> None:
    """Say what an issuer is called in FHIR (a URI) and as an OID."""
    caller.require(Action("Setting", "u"))
    with mpi.database.transaction() as session:
        session.merge(IdentifierDomain(issuer=issuer, system=system, oid=oid, name=name))
