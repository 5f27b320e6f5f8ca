"""Review pages: two records of which somebody says whether they are one person, and studies whose header
contradicts their order.

One pair at a time, side by side, with how each field agrees and what that weighs. Every decision has a key,
so that a queue is worked through without a mouse.
"""

from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from access.caller import CORRECT_IMAGES, Caller
from archive.reconcile import comparisons, decide, lately_decided, undo_decision
from archive.room import Archive
from kernel.errors import CloudfilmError, Kind
from kernel.http import room
from mpi.demographics import Demographics
from mpi.review import DECIDE, Review, decide_pair, open_reviews, split_off
from mpi.room import Mpi
from portal.account import HEADERS
from portal.catalogue import language, say, texts
from portal.console import menu_of, page

blp = Blueprint("review", __name__, template_folder="templates")

FIELDS: tuple[tuple[str, Callable[[Demographics], str]], ...] = (
    ("name", lambda said: _name(said.name)),
    ("sex", lambda said: said.sex),
    ("birth_date", lambda said: said.birth_date.isoformat() if said.birth_date else ""),
    ("identity", lambda said: said.identity_number),
    ("insurance", lambda said: said.insurance_number),
    ("phone", lambda said: said.phone),
    ("address", lambda said: said.address),
    ("number", lambda said: said.identifier.partition("~")[0]),
    ("issuer", lambda said: said.issuer),
    ("institution", lambda said: said.institution),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One field of both sides."""

    field: str
    one: str
    other: str

    @property
    def is_same(self) -> bool:
        """Whether both say the same."""
        return self.one == self.other

    @property
    def is_silent(self) -> bool:
        """Whether one says nothing."""
        return not self.one or not self.other


@dataclass(frozen=True, slots=True)
class Weighed:
    """How one term agrees, and what that weighs in bits."""

    label: str
    level: str
    bits: float


@blp.get("/review")
def queue() -> AnyResponse:
    """To the persons' queue."""
    return redirect("/review/persons", 303)


@blp.route("/review/persons", methods=["GET", "POST"])
@page
def persons(caller: Caller) -> AnyResponse:
    """Two records: one person, two, or one of them split off from others."""
    caller.require(DECIDE)
    at, message = _position(), ""
    if request.method == "POST":
        message = _decided(lambda: _decide_persons(caller))
        if not message:
            return redirect(f"/review/persons?at={at}{_asked_language()}", 303)
    found, total = open_reviews(room(Mpi), caller, 1, at)
    if not found and total:
        found, total = open_reviews(room(Mpi), caller, 1, at := total - 1)
    review = found[0] if found else None
    return _html(
        caller, "persons", message, at, total,
        pair=review,
        lines=[Line(name, show(review.sides[0]), show(review.sides[1])) for name, show in FIELDS]
        if review
        else [],
        weighed=_weighed(review) if review else [],
        rule=_rule(review.rule) if review and review.rule else "",
        name_of=_name,
    )  # fmt: skip


@blp.route("/review/images", methods=["GET", "POST"])
@page
def images(caller: Caller) -> AnyResponse:
    """A study whose header contradicts the order that it names: of the order's patient, or not."""
    caller.require(CORRECT_IMAGES)
    at, message = _position(), ""
    if request.method == "POST":
        message = _decided(lambda: _decide_images(caller))
        if not message:
            return redirect(f"/review/images?at={at}{_asked_language()}", 303)
    found, total = comparisons(room(Archive), caller, most=1, after=at)
    if not found and total:
        found, total = comparisons(room(Archive), caller, most=1, after=(at := total - 1))
    held = found[0] if found else None
    lines = [Line(each.field, each.header, each.other) for each in held.fields] if held else []
    decided = lately_decided(room(Archive), caller)
    return _html(caller, "images", message, at, total, pair=held, lines=lines, decided=decided)


def _decide_persons(caller: Caller) -> None:
    verdict = request.form.get("verdict", "")
    if verdict == "split":
        split_off(room(Mpi), caller, _item(), request.form.get("patient", ""))
    else:
        decide_pair(room(Mpi), caller, _item(), same_person=verdict == "same")


def _decide_images(caller: Caller) -> None:
    verdict = request.form.get("verdict", "")
    if verdict == "undo":
        undo_decision(room(Archive), caller, _item())
    else:
        decide(room(Archive), caller, _item(), same_patient=verdict == "same")


def _decided(act: Callable[[], None]) -> str:
    """Do what was decided; returns why that could not be, if a person can do something about it."""
    try:
        act()
    except CloudfilmError as refusal:
        if refusal.kind in (Kind.FORBIDDEN, Kind.UNAUTHENTICATED, Kind.FAULT):
            raise
        return say("review.gone")
    return ""


def _item() -> int:
    text = request.form.get("item", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def _position() -> int:
    text = request.args.get("at", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def _asked_language() -> str:
    return f"&lang={language()}" if "lang" in request.args else ""


def _weighed(review: Review) -> list[Weighed]:
    rows = []
    for term, (levels, bits) in review.by_field.items():
        fields = [field for field in term.split("+") if f"review.field.{field}" in texts(language())]
        label = " + ".join(say(f"review.field.{field}") for field in fields)
        level = " + ".join(say(f"review.level.{each}") for each in levels.split("+")) if levels else ""
        rows.append(Weighed(label or say("review.frequency"), level, bits))
    return rows


def _rule(rule: str) -> str:
    return texts(language()).get(f"review.rule.{rule}", rule)


def _name(name: str) -> str:
    """The writings of a name, as people read them."""
    return " · ".join(_group(group) for group in name.split("=") if group.strip(" ^"))


def _group(group: str) -> str:
    joint = "" if any(ord(each) > 0x2E80 for each in group) else " "
    return joint.join(part for part in group.split("^") if part)


def _html(caller: Caller, topic: str, message: str, at: int, total: int, **values: object) -> Response:
    html = render_template(
        "review.html", say=say, language=language(), menu=menu_of(caller), here="/review/persons",
        name=caller.principal.name, topic=topic, message=message, at=at, total=total,
        lang=_asked_language(), may_images=caller.may(CORRECT_IMAGES), may_persons=caller.may(DECIDE),
        **values,
    )  # fmt: skip
    answer = make_response(html)
    answer.headers.update(HEADERS)
    return answer
