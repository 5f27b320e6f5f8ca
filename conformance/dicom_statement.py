"""The DICOM conformance statement, in the form of PS3.2 (annex A).

Made from facts that the caller takes from the tables that the code negotiates and searches with, so the
statement says what is done. Headings are in Chinese and English; the terms of the standard stay as they are.
"""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SopClass:
    """A SOP class by its name in the standard."""

    uid: str
    name: str


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """A service class as one side of it is offered or used."""

    name: str
    standard: str
    role: str  # SCP or SCU
    sop_classes: tuple[SopClass, ...]
    transfer_syntaxes: tuple[SopClass, ...]
    operations: tuple[str, ...]
    both_roles: bool = False  # the requestor may also be the SCP
    extended: str = ""  # what extended negotiation may agree on, in hexadecimal
    statuses: tuple[tuple[str, str], ...] = ()  # status, when it is given
    is_initiated: bool = False  # over associations that this side opens, with role selection where it is SCP


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """An attribute of the query models."""

    keyword: str
    tag: str
    level: str
    vr: str
    matching: str


@dataclass(frozen=True, slots=True)
class DicomFacts:
    """All that the statement says."""

    product: str
    version: str
    ae_title: str
    port: int
    tls_port: int
    implementation_class_uid: str
    implementation_version_name: str
    max_pdu_bytes: int
    max_associations: int
    processes: int
    idle_timeout_s: float
    services: tuple[ServiceFacts, ...]
    keys: tuple[KeyFacts, ...]
    character_sets: tuple[str, ...]
    ciphers: str
    rejections: tuple[tuple[str, str, str, str], ...]  # result, source, reason, when


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below a head."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A numbered section; the number's dots say its depth."""

    number: str
    zh: str
    en: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = field(default_factory=tuple)


def dicom_statement(facts: DicomFacts) -> tuple[Section, ...]:
    """The sections of the statement, in the order of PS3.2 A."""
    accepted = [service for service in facts.services if not service.is_initiated]
    initiated = [service for service in facts.services if service.is_initiated]
    ports = f"{facts.port}" + (f", {facts.tls_port} (TLS)" if facts.tls_port else "")
    return (
        Section("1", "概述", "Overview", (
            f"{facts.product} is an image archive. Its application entity {facts.ae_title} takes part in the "
            "network services below; what it keeps is also reached by DICOMweb (QIDO-RS, WADO-RS, STOW-RS).",
        ), (_overview(facts.services),)),
        Section("2", "引言", "Introduction", (
            "For administrators of hospitals and vendors of devices who connect to it. The statement is made "
            "from the tables that the software negotiates with; it does not replace a test of both sides.",
        )),
        Section("3", "网络", "Networking"),
        Section("3.1", "实现模型", "Implementation Model", (
            "One application entity in several processes that share its ports. Each association is served by "
            "one thread from its first byte to its last. Sub-operations of C-MOVE, forwarding and retrieval "
            "from other archives open associations of their own.",
        )),
        Section("3.2", "应用实体规范", "AE Specification"),
        Section("3.2.1", "SOP 类", "SOP Classes", (), _sop_classes(facts.services)),
        Section("3.2.2", "关联策略", "Association Policies", (
            f"The application context is 1.2.840.10008.3.1.1.1. Up to {facts.max_associations} associations "
            f"for each of {facts.processes} processes, and fewer for a node where it is set so. PDUs of up "
            f"to {facts.max_pdu_bytes} bytes are taken. An association that is silent for "
            f"{facts.idle_timeout_s:g} s is aborted.",
            "Asynchronous operations: one operation at a time (window 1, 1). Role selection is accepted for "
            "the storage SOP classes. User identity is accepted in every form and acknowledged when asked "
            "for; user names stand in the audit trail and give no rights.",
        ), (Table(("Implementation Class UID", "Implementation Version Name"), (
            (facts.implementation_class_uid, facts.implementation_version_name),)),)),
        Section("3.2.3", "关联发起", "Association Initiation Policy", (
            "Associations are opened to known nodes only: for the sub-operations of C-MOVE, for forwarding, "
            "for pulls of history, for notices and results that nodes wait for, and by commands. Where this "
            "entity is the SCP of what it tells, it proposes that role by role selection, as it does of the "
            "storage SOP classes that a C-GET brings in. To a node with preferred transfer syntaxes "
            "instances are offered in those only; to others as they are stored, and uncompressed beside it.",
        ), tuple(_contexts(service) for service in initiated)),
        Section("3.2.4", "关联接受", "Association Acceptance Policy", (
            "Known nodes only, by AE title, network address and, under TLS, certificate.",
            "Of the transfer syntaxes of a context, the first of the node's preferred ones that was proposed "
            "is chosen, and otherwise the first that was proposed.",
        ), (Table(("Result", "Source", "Reason", "When"), facts.rejections),
            *(_contexts(service) for service in accepted))),
        Section("3.2.5", "扩展协商", "Extended Negotiation", (
            "Byte by byte the lower of what is proposed and of what is offered is agreed on. For Query: "
            "relational, date-time, fuzzy, timezone, enhanced multi-frame, empty value, multiple value "
            "matching. For Storage: level of support, level of digital signatures, element coercion.",
        ), (Table(("Service", "Offered (hexadecimal)"), tuple(
            (service.name, service.extended) for service in accepted if service.extended)),)),
        Section("3.2.6", "查询键", "Query Keys", (
            "One table for C-FIND and QIDO-RS. Single value, list of UID, universal, wildcard, range, "
            "sequence, empty value and multiple value matching. Names match on any component group, without "
            "regard to case and width; fuzzy matching is by pinyin and by beginnings of components.",
        ), (Table(("Attribute", "Tag", "Level", "VR", "Matching"), tuple(
            (key.keyword, f"({key.tag[:4]},{key.tag[4:]})", key.level, key.vr, key.matching)
            for key in facts.keys)),)),
        Section("3.2.7", "状态码", "Statuses", (), tuple(
            Table((each.name, "Given for"), each.statuses) for each in accepted if each.statuses)),
        Section("3.3", "网络接口", "Network Interfaces", (f"TCP/IP, IPv4 and IPv6; port {ports}.",)),
        Section("3.4", "配置", "Configuration", (
            "AE title, ports, limits and certificates are settings of the host; nodes are data of the site.",
        )),
        Section("4", "介质交换", "Media Interchange", (
            "DICOM files (PS3.10) are read from files and folders; file-sets are not written by this entity.",
        )),
        Section("5", "字符集", "Support of Character Sets", (
            "Answers of a query are in the asker's character set when it holds every text, and otherwise in "
            "ISO_IR 192. Objects keep their own.",
        ), (Table(("Specific Character Set",), tuple((term,) for term in facts.character_sets)),)),
        Section("6", "安全", "Security", (
            "BCP 195 TLS secure transport connection profile (PS3.15 B): TLS 1.2 and 1.3, mutual "
            f"certificates, cipher suites of TLS 1.2: {facts.ciphers}. Every association and "
            "operation is in the audit trail.",
        )),
        Section("7", "附录", "Annexes", (
            "Instances are kept bit for bit; nothing is coerced. When a peer takes no compressed syntax they "
            "are decompressed while they are sent. Frames retrieved alone have a new SOP Instance UID below "
            "2.25 and the Frame Extraction module. Transfer syntaxes of JPEG with loss are never made here. "
            "Private attributes are kept and none is added.",
        )),
    )  # fmt: skip


def _overview(services: Iterable[ServiceFacts]) -> Table:
    sides: dict[tuple[str, str], set[str]] = {}
    for service in services:
        sides.setdefault((service.name, service.standard), set()).add(service.role)
    return Table(
        ("Network service", "Standard", "User (SCU)", "Provider (SCP)"),
        tuple(
            (name, standard, "Yes" if "SCU" in roles else "No", "Yes" if "SCP" in roles else "No")
            for (name, standard), roles in sides.items()
        ),
    )


def _sop_classes(services: Iterable[ServiceFacts]) -> tuple[Table, ...]:
    """A table for each service, with both roles of its SOP classes."""
    by_service: dict[tuple[str, str], dict[SopClass, set[str]]] = {}
    for service in services:
        roles = by_service.setdefault((service.name, service.standard), {})
        for sop_class in service.sop_classes:
            roles.setdefault(sop_class, set()).add(service.role)
    return tuple(
        Table(
            (f"{name} ({standard})", "SOP Class UID", "SCU", "SCP"),
            tuple(
                (each.name, each.uid, "Yes" if "SCU" in roles else "No", "Yes" if "SCP" in roles else "No")
                for each, roles in sop_classes.items()
            ),
        )
        for (name, standard), sop_classes in by_service.items()
    )


def _contexts(service: ServiceFacts) -> Table:
    """Presentation contexts: all SOP classes of a service have the same transfer syntaxes."""
    role = f"{service.role}, and the other by role selection" if service.both_roles else service.role
    return Table(
        (f"{service.name}: {', '.join(service.operations)}; role {role}", "Transfer Syntax UID"),
        tuple((syntax.name, syntax.uid) for syntax in service.transfer_syntaxes),
    )


def as_markdown(title: str, sections: Sequence[Section]) -> str:
    """The statement as a document."""
    lines = [f"# {title}", ""]
    for section in sections:
        depth = "#" * (section.number.count(".") + 2)
        lines += [f"{depth} {section.number} {section.zh} {section.en}", ""]
        for paragraph in section.paragraphs:
            lines += [paragraph, ""]
        for table in section.tables:
            lines.append(f"| {' | '.join(table.head)} |")
            lines.append(f"|{' --- |' * len(table.head)}")
            lines += [f"| {' | '.join(row)} |" for row in table.rows]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


STYLE = (
    "body{font:16px/1.5 system-ui,'Noto Sans CJK SC',sans-serif;margin:2rem auto;max-width:64rem}"
    "body{padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0;width:100%}"
    "th,td{border:1px solid #8886;padding:.25rem .5rem;text-align:left}td{overflow-wrap:anywhere}"
    "h1,h2,h3,h4{line-height:1.25}nav{columns:2}"
    "div{overflow-x:auto}p{overflow-wrap:anywhere}"
    "@media(max-width:40rem){nav{columns:1}table{font-size:.8rem}}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}}"
)


def as_html(title: str, sections: Sequence[Section]) -> str:
    """The statement as a page."""
    escape = html.escape
    parts = [
        '<!doctype html><html lang="zh"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1><nav>",
    ]
    for section in sections:
        parts.append(
            f'<a href="#s{section.number}">{section.number} {escape(section.zh)} {escape(section.en)}</a><br>'
        )
    parts.append("</nav><main>")
    for section in sections:
        level = section.number.count(".") + 2
        parts.append(
            f'<h{level} id="s{section.number}">{section.number} {escape(section.zh)} '
            f'<span lang="en">{escape(section.en)}</span></h{level}>'
        )
        parts += [f'<p lang="en">{escape(paragraph)}</p>' for paragraph in section.paragraphs]
        for table in section.tables:
            head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
            rows = "".join(
                "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
            )
            parts.append(
                f'<div><table lang="en"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
            )
    parts.append("</main></body></html>")
    return "".join(parts)
