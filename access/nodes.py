"""Known DIMSE and MLLP peers: an AE title, the networks it calls from, its certificate, and what it may do.

Nobody else may associate. In the embedded default this machine itself (loopback) is known under any AE title.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from sqlalchemy import bindparam, literal, select

from access.caller import Caller, Door, Permissions, Principal, PrincipalKind
from access.model import Node
from access.policy import Decision, Site, decide
from access.roles import Role, Span
from access.tokens import SITE_REVISION, Access, site_of, site_revision
from kernel.errors import Unauthenticated

NODE_PERMISSIONS = {
    "store": Permissions.of(ImagingStudy="c", Workitem="c"),
    "find": Permissions.of(ImagingStudy="s", Patient="s"),
    "retrieve": Permissions.of(ImagingStudy="r"),
    "worklist": Permissions.of(Workitem="rus"),
    "print": Permissions.of(ImagingStudy="c"),
    "message": Permissions.of(Message="c", all="crus"),
    "all": Permissions.of(all="crus", Workitem="cruds", Message="c"),
}


@dataclass(frozen=True, slots=True)
class NodePeer:
    """A node as the rest of the program sees it."""

    ae_title: str
    host: str
    port: int
    institution: str
    department: str
    permissions: tuple[str, ...]
    transfer_syntaxes: tuple[str, ...]
    tls: bool
    max_associations: int
    certificate: str = ""  # SHA-256 in hexadecimal; empty: any of a known authority
    alternates: tuple[str, ...] = ()  # further `host:port` where it may be reached
    max_sending: int = 0
    max_bytes_per_s: int = 0

    @property
    def endpoints(self) -> tuple[tuple[str, int], ...]:
        """Where it is reached: host and port, the first choice first."""
        further = (address.rpartition(":") for address in self.alternates)
        found = [(host.strip("[]"), int(port)) for host, _, port in further if host]
        return ((self.host, self.port), *found) if self.host and self.port else tuple(found)


_ALWAYS = select(literal(1).label("one")).subquery()  # a row even for a node that has none
_STATE = (  # built once: it is asked before every message
    select(
        *SITE_REVISION,
        # all of a row that its caller is made of
        Node.id, Node.addresses, Node.host, Node.certificate, Node.institution, Node.department,
        Node.permissions, Node.integrity,
    )
    .select_from(_ALWAYS)
    .outerjoin(Node, Node.ae_title == bindparam("ae_title"))
)  # fmt: skip


class UnknownNode(Unauthenticated):
    """The AE title, the address it calls from, or its certificate is not one we know."""

    def __init__(self, ae_title: str, address: str) -> None:
        printable = "".join(character if character.isprintable() else "?" for character in ae_title)
        super().__init__(f"{printable!r} at {address} is not a known node; add it with: cloudfilm node add.")


def identify_node(
    access: Access, ae_title: str, address: str, certificate: bytes = b"", door: Door = Door.DIMSE
) -> tuple[Caller, NodePeer]:
    """Who calls. certificate: of the peer's TLS, in DER; empty: none. Raises UnknownNode, RowChanged or
    CertificateRefused."""
    fingerprint = sha256(certificate).hexdigest() if certificate else ""
    with access.database.snapshot() as session:
        row = session.scalar(select(Node).where(Node.ae_title == ae_title))
        revision = site_revision(session)
    if row is not None and _calls_from(row, address) and row.certificate in ("", fingerprint):
        peer = peer_of(row)
    elif access.settings.loopback_ae and row is None and _is_loopback(address):
        peer = NodePeer(ae_title, address, 0, access.settings.institution, "", ("all",), (), False, 0)
    else:
        raise UnknownNode(ae_title, address)
    if row is not None:
        access.require_intact(row)
    if certificate:
        access.revocations.require_good(certificate, access.clock.now(), is_pinned=bool(peer.certificate))
    span = Span.ALL if row is None else Span.INSTITUTION
    site = site_of(access, revision)
    return _decide(access, peer, span, site, door, address, access.clock.now()).caller, peer


def node_decision(access: Access, ae_title: str, door: Door, address: str, at: datetime) -> Decision:
    """The decision that a registered node would meet, for who looks up a refusal.

    address: empty: from where it is known to call. Raises UnknownNode.
    """
    with access.database.snapshot() as session:
        row = session.scalar(select(Node).where(Node.ae_title == ae_title))
    if row is None or (address and not _calls_from(row, address)):
        raise UnknownNode(ae_title, address)
    return _decide(access, peer_of(row), Span.INSTITUTION, site_of(access), door, address, at)


def _decide(
    access: Access, peer: NodePeer, span: Span, site: Site, door: Door, address: str, at: datetime
) -> Decision:
    permissions = Permissions()
    for word in peer.permissions:
        permissions = permissions.union(NODE_PERMISSIONS[word])
    institution = peer.institution or access.settings.institution  # as of what it stores
    principal = Principal(PrincipalKind.NODE, peer.ae_title, peer.ae_title, institution, peer.department)
    role = Role("node", permissions, span)
    return decide(principal, door, role=role, site=site, address=address, at=at)


def node_state(access: Access, ae_title: str) -> tuple[object, ...]:
    """What decides about a node: its row, the rules in force and the lists of revoked certificates. Equal as
    long as nothing has changed."""
    return (*(access.database.row(_STATE, {"ae_title": ae_title}) or ()), access.revocations.revision)


def find_node(access: Access, ae_title: str) -> NodePeer | None:
    """The node of this AE title, for C-MOVE and for sending to it. Raises RowChanged."""
    with access.database.snapshot() as session:
        row = session.scalar(select(Node).where(Node.ae_title == ae_title))
    if row is not None:
        access.require_intact(row)
    return peer_of(row) if row is not None else None


def known_nodes(access: Access) -> tuple[NodePeer, ...]:
    """All of them, by AE title."""
    with access.database.snapshot() as session:
        return tuple(peer_of(row) for row in session.scalars(select(Node).order_by(Node.ae_title)))


def peer_of(row: Node) -> NodePeer:
    """The row as a value."""
    return NodePeer(
        row.ae_title,
        row.host,
        row.port,
        row.institution,
        row.department,
        _words(row.permissions),
        _words(row.transfer_syntaxes),
        row.tls,
        row.max_associations,
        row.certificate,
        _words(row.alternates),
        row.max_sending,
        row.max_bytes_per_s,
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _calls_from(row: Node, address: str) -> bool:
    networks = _words(row.addresses) or ((row.host,) if row.host else ())
    try:
        caller = ipaddress.ip_address(address)
    except ValueError:
        return address in networks
    for network in networks:
        try:
            if caller in ipaddress.ip_network(network, strict=False):
                return True
        except ValueError:  # a host name: the operator's own resolver is not asked while a peer waits
            continue
    return not networks


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
