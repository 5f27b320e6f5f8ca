"""The register of nodes: adding, changing and forgetting peers, each checked and written into the trail."""

import ipaddress
import re
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import delete, select

from access.audit import note
from access.caller import Action, Caller
from access.model import Node
from access.nodes import NODE_PERMISSIONS
from access.tokens import Access
from kernel.errors import CloudfilmError, Kind

HOST = re.compile(r"[A-Za-z0-9._:\-]{0,255}")
CERTIFICATE = re.compile(r"([0-9a-f]{64})?")
CODE = re.compile(r"[\w.-]{0,32}")
UID = re.compile(r"[0-9.]{1,64}")
ENDPOINT = re.compile(r"[A-Za-z0-9._:\-\[\]]{1,255}:([0-9]{1,5})")
MOST_BYTES_PER_S = 10**12


class InvalidNode(CloudfilmError):
    """A row of the register that cannot be kept; says which field and what would do."""

    kind = Kind.UNPROCESSABLE

    def __init__(self, field: str, remedy: str) -> None:
        super().__init__(f"{field}: {remedy}")


class NoSuchNode(CloudfilmError):
    """No node has this AE title."""

    kind = Kind.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("No node has this AE title.")


@dataclass(frozen=True, slots=True)
class NodeRow:
    """What a person writes about a node."""

    ae_title: str
    host: str = ""
    port: int = 104
    addresses: str = ""  # networks it calls from, by commas; empty: its host
    permissions: str = "store,find,retrieve"
    institution: str = ""
    department: str = ""
    certificate: str = ""
    tls: bool = False
    max_associations: int = 0
    alternates: str = ""  # further `host:port` where it may be reached, by commas, in this order
    transfer_syntaxes: str = ""  # UIDs that it is to be sent, by commas; empty: as stored
    max_sending: int = 0  # associations that we open to it at once
    max_bytes_per_s: int = 0


def _are_networks(text: str) -> bool:
    try:
        return all(
            ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip()
        )
    except ValueError:
        return False


def _are(form: re.Pattern[str], text: str) -> bool:
    return all(form.fullmatch(part.strip()) for part in text.split(",")) if text.strip() else True


def _are_endpoints(text: str) -> bool:
    ports = [part.strip().rpartition(":")[2] for part in text.split(",") if part.strip()]
    return _are(ENDPOINT, text) and all(0 < int(port) < 65536 for port in ports)


def _is_ae_title(text: str) -> bool:
    return (
        0 < len(text) <= 16
        and text.isascii()
        and text.isprintable()
        and "\\" not in text
        and bool(text.strip())
    )


CHECKS = (
    ("ae_title", lambda row: _is_ae_title(row.ae_title), "1 to 16 printable ASCII characters"),
    ("host", lambda row: bool(HOST.fullmatch(row.host)), "a name or an address"),
    ("port", lambda row: 0 < row.port < 65536, "1 to 65535"),
    ("addresses", lambda row: _are_networks(row.addresses), "networks as 10.1.0.0/16, by commas"),
    (
        "permissions",
        lambda row: bool(row.permissions) and set(row.permissions.split(",")) <= set(NODE_PERMISSIONS),
        f"some of {', '.join(NODE_PERMISSIONS)}, by commas",
    ),
    ("institution", lambda row: bool(CODE.fullmatch(row.institution)), "a code of at most 32 letters"),
    ("department", lambda row: len(row.department) <= 64, "at most 64 characters"),
    (
        "certificate",
        lambda row: bool(CERTIFICATE.fullmatch(row.certificate)),
        "SHA-256, 64 hexadecimal digits",
    ),
    ("max_associations", lambda row: 0 <= row.max_associations <= 1024, "0 to 1024; 0: no limit of its own"),
    ("alternates", lambda row: _are_endpoints(row.alternates), "host:port, by commas"),
    ("transfer_syntaxes", lambda row: _are(UID, row.transfer_syntaxes), "UIDs, by commas"),
    ("max_sending", lambda row: 0 <= row.max_sending <= 1024, "0 to 1024; 0: no limit"),
    ("max_bytes_per_s", lambda row: 0 <= row.max_bytes_per_s <= MOST_BYTES_PER_S, "0 or more; 0: no limit"),
)


def list_nodes(access: Access, caller: Caller) -> tuple[NodeRow, ...]:
    """All nodes by AE title. Raises Forbidden."""
    caller.require(Action("Node", "s"))
    with access.database.snapshot() as session:
        rows = session.scalars(select(Node).order_by(Node.ae_title)).all()
    return tuple(NodeRow(**{each.name: getattr(row, each.name) for each in fields(NodeRow)}) for row in rows)


def put_node(access: Access, caller: Caller, row: NodeRow) -> None:
    """Add a node, or change the one of this AE title. Raises Forbidden or InvalidNode."""
    for name, is_right, remedy in CHECKS:
        if not is_right(row):
            raise InvalidNode(name, remedy)
    with access.database.transaction() as session:
        known = session.scalar(select(Node).where(Node.ae_title == row.ae_title))
        caller.require(Action("Node", "u" if known else "c"))
        if known is None:
            known = Node(ae_title=row.ae_title, created_at=access.clock.now())
            session.add(known)
        values: dict[str, Any] = {each.name: getattr(row, each.name) for each in fields(NodeRow)}
        for name, value in values.items():
            setattr(known, name, value)
        session.flush()
        note(session, access.clock, caller, "change Node", row.ae_title)


def remove_node(access: Access, caller: Caller, ae_title: str) -> None:
    """Forget a node: its next association is rejected. Raises Forbidden or NoSuchNode."""
    caller.require(Action("Node", "d"))
    with access.database.transaction() as session:
        removed = session.execute(delete(Node).where(Node.ae_title == ae_title))
        if not removed.rowcount:  # type: ignore[attr-defined]
            raise NoSuchNode
        note(session, access.clock, caller, "delete Node", ae_title)
