"""Forwarding: studies go on to other nodes by the site's rules, queued, retried and resumed.

The rules are a site document. When a study comes to rest, each rule that speaks of it puts it on the list of
its node; a job sends what waits for a node, study by study, as far as the node's time window allows. How far
a study has come is kept, so an interrupted one goes on where it was, and what arrives later goes alone. An
instance does not go back to the node that it came from.

    {"rules": [{"id": "ct-to-ai", "to": "AI1", "modalities": ["CT"], "departments": ["Radiology"],
                "institutions": ["MAIN"], "from": ["CT1"], "hours": "22:00-06:00"}]}
"""

import json
import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from access.caller import Caller, system
from access.document_kind import DocumentKind, current_document
from access.nodes import NodePeer
from archive.model import Instance, Series, Study
from archive.retrieve import Selection, find_selected, survey
from archive.zones import offset_minutes
from dimse.model import Forwarding
from dimse.peers import Sender, UnknownPeer, known_peer, note_sent
from dimse.schedule import Window, parse_window
from dimse.sending import Counts, as_stored, is_warning
from dimse.service import Dimse
from dimse.statuses import SUCCESS
from kernel.changes import Change
from kernel.errors import CloudfilmError, Kind
from kernel.jobs import enqueue, job

log = logging.getLogger(__name__)

KEEP_EVERY = 25  # instances after which the place is kept
TURN_S = 10.0  # after which a job lets others run, between two studies
MOST_TRIES = 12  # of a study that a node refuses, before people have to look
MOST_KEPT_FAILURES = 5000


class InvalidForwarding(CloudfilmError):
    """Forwarding rules that cannot be read; says which and why."""

    kind = Kind.UNPROCESSABLE


class NoSuchForwarding(CloudfilmError):
    """No study is on its way under this number."""

    kind = Kind.NOT_FOUND

    def __init__(self, number: int) -> None:
        super().__init__(f"Nothing is on its way under number {number}; see: cloudfilm forward list.")


@dataclass(frozen=True, slots=True)
class ForwardRule:
    """Where a study goes, and which do. An empty set is no condition."""

    id: str
    to: str
    modalities: frozenset[str] = frozenset()
    departments: frozenset[str] = frozenset()
    institutions: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()  # AE titles that some instance came from
    hours: Window | None = None

    def speaks_of(
        self, modalities: frozenset[str], department: str, institution: str, sources: frozenset[str]
    ) -> bool:
        """Whether a study of these goes to the node."""
        return (
            (not self.modalities or bool(self.modalities & modalities))
            and (not self.departments or department in self.departments)
            and (not self.institutions or institution in self.institutions)
            and (not self.sources or bool(self.sources & sources))
            and sources != {self.to}
        )


SETS = {  # keys of the document, and fields of the rule
    "modalities": "modalities",
    "departments": "departments",
    "institutions": "institutions",
    "from": "sources",
}


@lru_cache(maxsize=16)
def parse_forwarding(text: str) -> tuple[ForwardRule, ...]:
    """Read the document. Raises InvalidForwarding."""
    try:
        document = json.loads(text)
        rules = document.get("rules", [])
        if set(document) - {"rules"} or not isinstance(rules, list):
            raise InvalidForwarding("The document has one list, `rules`.")
        parsed = tuple(_rule(rule) for rule in rules)
    except (ValueError, AttributeError, TypeError):
        raise InvalidForwarding("The forwarding rules cannot be read as JSON.") from None
    if len({rule.id for rule in parsed}) < len(parsed):
        raise InvalidForwarding("Two rules have the same id.")
    return parsed


def _rule(raw: Any) -> ForwardRule:
    if not isinstance(raw, dict) or not isinstance(raw.get("id"), str) or not isinstance(raw.get("to"), str):
        raise InvalidForwarding("Each rule has an `id` and the AE title that it sends `to`.")
    name = raw["id"][:64]
    unknown = set(raw) - {"id", "to", "hours", *SETS}
    if unknown:
        raise InvalidForwarding(f"Rule {name!r}: {', '.join(sorted(unknown))} means nothing here.")
    if not 0 < len(raw["to"]) <= 16 or not name:
        raise InvalidForwarding(f"Rule {name!r}: an AE title has 1 to 16 characters, an id at least one.")
    sets: dict[str, frozenset[str]] = {}
    for key, field in SETS.items():
        values = raw.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise InvalidForwarding(f"Rule {name!r}: `{key}` is a list of texts.")
        sets[field] = frozenset(values)
    try:
        hours = parse_window(str(raw.get("hours", "")))
    except ValueError:
        raise InvalidForwarding(f"Rule {name!r}: write `hours` as 22:00-06:00.") from None
    return ForwardRule(name, raw["to"], **sets, hours=hours)


FORWARDING = DocumentKind(
    "forwarding",
    "Which studies are sent on to which nodes, by modality, department, institution, source and time of day.",
    parse_forwarding,
    '{"rules": []}',
)


def follow_for_forwarding(dimse: Dimse, session: Session, change: Change) -> None:
    """Put a study that came to rest on the lists of the nodes that the rules name."""
    rules = parse_forwarding(current_document(session, FORWARDING))
    if not rules:
        return
    study = session.execute(
        select(Study.id, Study.institution, Study.department).where(
            Study.study_instance_uid == change.subject
        )
    ).first()
    if study is None:
        return
    modalities = frozenset(
        session.scalars(select(Series.modality).where(Series.study_id == study.id).distinct())
    )
    sources = frozenset(
        session.scalars(select(Instance.source).where(Instance.study_id == study.id).distinct())
    )
    for rule in rules:
        if rule.speaks_of(modalities, study.department, study.institution, sources):
            request_forwarding(dimse, session, change.subject, rule.to, rule.id)


def request_forwarding(dimse: Dimse, session: Session, study_instance_uid: str, node: str, rule: str) -> None:
    """Put a study on the list of a node; one that was sent already goes on from there."""
    now = dimse.clock.now()
    known = session.connection().execute(
        update(Forwarding)
        .where(Forwarding.study_instance_uid == study_instance_uid, Forwarding.node == node)
        .values(state="waiting", due=now, rule=rule, tries=0, finished_at=None)
    )
    if not known.rowcount:
        session.add(
            Forwarding(
                study_instance_uid=study_instance_uid,
                node=node,
                rule=rule,
                state="waiting",
                due=now,
                created_at=now,
            )
        )
    enqueue(session, dimse.clock, forward, node, key=f"forward {node}")


def follow_up(dimse: Dimse) -> tuple[str, ...]:
    """The nodes for which something waits."""
    with dimse.access.database.snapshot() as session:
        waiting = select(Forwarding.node).where(
            Forwarding.state == "waiting", Forwarding.due <= dimse.clock.now()
        )
        return tuple(session.scalars(waiting.distinct()))


@job(queue="dimse", every=timedelta(minutes=5))
def forward_waiting(dimse: Dimse) -> None:
    """Take up again what waits: after an outage, a change of hours, or a lost job."""
    for node in follow_up(dimse):
        with dimse.access.database.transaction() as session:
            enqueue(session, dimse.clock, forward, node, key=f"forward {node}")


@job(queue="dimse")
def forward(dimse: Dimse, node: str) -> None:
    """Send what waits for a node, study by study, for a while; then other jobs have their turn. When the node
    cannot be reached, all that waits for it is put off."""
    caller = system("forwarding")
    passed: set[int] = set()
    until = time.monotonic() + TURN_S
    while True:
        with dimse.access.database.snapshot() as session:
            row = session.scalar(
                select(Forwarding)
                .where(
                    Forwarding.node == node,
                    Forwarding.state == "waiting",
                    Forwarding.due <= dimse.clock.now(),
                    Forwarding.id.not_in(passed),
                )
                .order_by(Forwarding.due, Forwarding.id)
                .limit(1)
            )
            rules = {rule.id: rule for rule in parse_forwarding(current_document(session, FORWARDING))}
        if row is None:
            return
        if time.monotonic() > until:
            with dimse.access.database.transaction() as session:
                enqueue(session, dimse.clock, forward, node, key=f"forward {node}")
            return
        passed.add(row.id)
        hours = rules[row.rule].hours if row.rule in rules else None
        wait_s = hours.seconds_until_open(dimse.clock.now(), _offset(dimse)) if hours else 0.0
        if wait_s:
            _keep(dimse, row.id, due=dimse.clock.now() + timedelta(seconds=wait_s))
            continue
        try:
            _send(dimse, caller, known_peer(dimse, node), row)
        except UnknownPeer as refusal:
            _keep(dimse, row.id, state="failed", error=str(refusal), finished_at=dimse.clock.now())
        except CloudfilmError as refusal:
            log.warning("forwarding to %s is put off: %s", node, refusal)
            _put_off(dimse, row, str(refusal))
            return


def _put_off(dimse: Dimse, row: Forwarding, error: str) -> None:
    """Let all that waits for the node of a study wait longer, the longer the more often it failed."""
    delay_s = min(3600, 15 * 2 ** min(row.tries, 8))
    due = dimse.clock.now() + timedelta(seconds=delay_s)
    waiting = update(Forwarding).where(Forwarding.node == row.node, Forwarding.state == "waiting")
    with dimse.access.database.transaction() as session:
        session.execute(waiting.where(Forwarding.due < due).values(due=due))
        session.execute(waiting.where(Forwarding.id == row.id).values(error=error, tries=row.tries + 1))
        enqueue(session, dimse.clock, forward, row.node, delay_s=delay_s, key=f"forward {row.node}")


def _offset(dimse: Dimse) -> int:
    return offset_minutes(dimse.settings.utc_offset) or 0


def _keep(dimse: Dimse, row_id: int, **values: Any) -> None:
    with dimse.access.database.transaction() as session:
        session.execute(update(Forwarding).where(Forwarding.id == row_id).values(**values))


def _send(dimse: Dimse, caller: Caller, node: NodePeer, row: Forwarding) -> None:
    """Send what of a study was not sent yet, and first what failed before."""
    archive, study = dimse.archive, (row.study_instance_uid,)
    retried = tuple(uid for uid in row.failed.split(",") if uid)
    parts = [Selection(studies=study, instances=retried)] if retried else []
    parts.append(Selection(studies=study, newer_than=row.until_instance, by_arrival=True))
    forms = [form for part in parts for form in survey(archive, caller, part).forms]
    sent, until, failed = row.sent, row.until_instance, list[str]()
    error = ""

    def keep(**values: Any) -> None:
        _keep(dimse, row.id, sent=sent, until_instance=until, failed=_failures(failed), **values)

    with Sender(dimse, node, list(dict.fromkeys(forms))) as sender:
        for part in parts:
            for at, stored in enumerate(find_selected(archive, caller, part), 1):
                if stored.source != node.ae_title:
                    try:
                        status = sender.send(as_stored(archive, stored))
                    except CloudfilmError:
                        left = retried if not part.by_arrival else ()
                        failed.extend(uid for uid in left if uid not in failed)
                        keep()
                        raise
                    if status == SUCCESS or is_warning(status):
                        sent += 1
                    else:
                        failed.append(stored.sop_instance_uid)
                        error = f"status {status:#06x} for {stored.sop_instance_uid}"
                until = max(until, stored.id) if part.by_arrival else until
                if at % KEEP_EVERY == 0 and part.by_arrival:
                    keep()
    counts = Counts(0, completed=sent - row.sent, failed=len(failed))
    note_sent(dimse, caller, study, counts, node.ae_title)
    now = dimse.clock.now()
    if not failed:
        keep(state="sent", error="", tries=0, finished_at=now)
    elif row.tries + 1 >= MOST_TRIES:
        keep(state="failed", error=error, finished_at=now)
    else:
        delay = timedelta(seconds=min(3600, 5 * 4**row.tries))
        keep(state="waiting", error=error, tries=row.tries + 1, due=now + delay)
        with dimse.access.database.transaction() as session:
            enqueue(session, dimse.clock, forward, node.ae_title, delay_s=delay.total_seconds(),
                    key=f"forward {node.ae_title} again")  # fmt: skip


def _failures(uids: list[str]) -> str:
    return ",".join(dict.fromkeys(uids[:MOST_KEPT_FAILURES]))


def retry_forwarding(dimse: Dimse, number: int, from_begin: bool = False) -> None:
    """Let a study go again now; from the begin, everything of it. Raises NoSuchForwarding."""
    values: dict[str, Any] = {"state": "waiting", "due": dimse.clock.now(), "tries": 0, "finished_at": None}
    if from_begin:
        values |= {"until_instance": 0, "failed": "", "sent": 0}
    with dimse.access.database.transaction() as session:
        node = session.scalar(
            update(Forwarding).where(Forwarding.id == number).values(**values).returning(Forwarding.node)
        )
        if node is None:
            raise NoSuchForwarding(number)
        enqueue(session, dimse.clock, forward, node, key=f"forward {node}")


def count_forwarding(dimse: Dimse) -> dict[str, dict[str, int]]:
    """How many studies wait, were sent and failed, for each node."""
    counted = select(Forwarding.node, Forwarding.state, func.count()).group_by(
        Forwarding.node, Forwarding.state
    )
    found: dict[str, dict[str, int]] = {}
    with dimse.access.database.snapshot() as session:
        for node, state, count in session.execute(counted):
            found.setdefault(node, {})[state] = count
    return found
