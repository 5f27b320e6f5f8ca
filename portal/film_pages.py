"""The pages that patients and their visitors see: examinations, images, reports, family, who has seen it.

Each is drawn below a share (`/share/<grant>`) and below `/patient`, from the same function; the place says
by whose right. The text of a page, and the first image, come with the first answer: the scripts make it
nicer and are not waited for.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from access.caller import PrincipalKind
from access.family import RELATIONS, add_person, list_persons, remove_person
from access.grants import Terms, end_visit, list_grants, own_patients, policy_of, revoke_grant, sharing_of
from access.share_links import share_url
from access.tokens import Access
from access.trail import seen_by
from archive.exams import Exam, list_exams, read_exam
from archive.overview import draw_sheet
from archive.render import JPEG, Rendering, Viewport, render_frame
from archive.retrieve import find_instance, find_middle
from archive.room import Archive
from archive.shares import share_studies
from kernel.errors import CloudfilmError, Kind
from kernel.http import STATUS, room
from messaging.room import Messaging
from messaging.wechat import account_of_site
from portal import ohif
from portal.catalogue import say, words
from portal.film import NotOpen, Place, SignInFirst, film_page, masked_name, place_of
from portal.health_links import make_health_link
from portal.qr_code import qr_picture
from portal.refusals import told
from portal.report_page import (
    ReportShown,
    images_named,
    note_shown,
    pdf_of,
    picture_of,
    report_of,
    reports_of,
    with_results,
)
from portal.report_pdf import draw_report, mark_pdf
from records.room import Records

blp = Blueprint("film", __name__, template_folder="templates")

PLACES = ("/share/<uuid:grant>", "/patient")
HEALTH_LINK_DAYS = 3  # short: a receiver imports it at once
PREVIEW_SIDES = (160, 320, 640, 1024)
View = Callable[..., AnyResponse]


def page(path: str, *methods: str) -> Callable[[View], View]:
    """A page at a path of both places; who may not be there is told what to do next."""

    def declare(view: View) -> View:
        @wraps(view)
        def answer(grant: object = "", **values: Any) -> AnyResponse:
            try:
                return view(place_of(str(grant)), **values)
            except NotOpen:
                return expired_page()
            except SignInFirst:
                return redirect(f"/patient/sign-in?next={request.path}", 303)
            except CloudfilmError as refusal:
                if refusal.kind is Kind.FAULT:
                    raise
                return refused_page(refusal)

        for number, place in enumerate(PLACES):
            blp.add_url_rule(
                place + path, f"{view.__name__}-{number}", answer, methods=list(methods or ("GET",))
            )
        return view

    return declare


def expired_page() -> Response:
    """The link has expired, and what to do next. The same for a share that never was."""
    contact = policy_of(room(Access), "").contact
    return film_page("film_message.html", None, 410, topic="expired", detail="", contact=contact)


def refused_page(refusal: CloudfilmError) -> Response:
    """Something that cannot be done, in words."""
    topic = "not-found" if refusal.kind in (Kind.NOT_FOUND, Kind.GONE) else "refused"
    detail = "" if topic == "not-found" else told(refusal)
    back = "/patient" if request.path.startswith("/patient") else "/".join(request.path.split("/")[:3])
    return film_page(
        "film_message.html", None, STATUS[refusal.kind], topic=topic, detail=detail, contact="", back=back
    )


@page("")
def home(place: Place) -> AnyResponse:
    """A share of one examination opens with it; several, and a patient's own, with the list."""
    archive, records = room(Archive), room(Records)
    exams = list_exams(archive, place.caller)
    reports = _reports(records, place)
    if place.visit is not None:
        if len(exams) == 1:
            return _exam_page(place, read_exam(archive, place.caller, exams[0].study_instance_uid), reports)
        if not exams:
            return film_page("film_waiting.html", place, reports=reports, refresh=not reports)
    listed = [(exam, [each for each in reports if _is_of(each, exam)]) for exam in exams]
    loose = [each for each in reports if not any(_is_of(each, exam) for exam in exams)]
    return film_page("film_list.html", place, exams=listed, loose=loose, own=_own_list(place, exams))


def _own_list(place: Place, exams: tuple[Exam, ...]) -> bool:
    """Whether the page is of an account that holds no record yet, and should be told how to add one."""
    return place.visit is None and not exams and not own_patients(place.caller)


def _reports(records: Records, place: Place) -> tuple[ReportShown, ...]:
    if place.visit is not None and not place.visit.with_report:
        return ()
    return reports_of(records, place.caller)


def _is_of(report: ReportShown, exam: Exam) -> bool:
    return report.is_of(exam.study_instance_uid, exam.logical_id, exam.accession_number)


@page("/studies/<study>")
def study(place: Place, study: str) -> AnyResponse:
    """One examination: its report, and the way to its images."""
    exam = read_exam(room(Archive), place.caller, study)
    return _exam_page(place, exam, _reports(room(Records), place))


def _exam_page(place: Place, exam: Exam, reports: tuple[ReportShown, ...]) -> Response:
    own = with_results(room(Records), place.caller, [each for each in reports if _is_of(each, exam)])
    for each in own:
        note_shown(room(Records), place.caller, each)
    pointed = [(image, text) for each in own for uid, text in images_named(each) if (image := exam.find(uid))]
    lead = pointed[0][0] if pointed else exam.first
    return film_page(
        "film_exam.html", place, script="share", exam=exam, reports=own, pointed=pointed, lead=lead
    )


@page("/studies/<study>/images")
def images(place: Place, study: str) -> AnyResponse:
    """The images: the first one, or that of `image`, at once from the server, then the viewer.

    The viewer's contract is `portal/ui/viewer/contract.ts`; what it needs stands in data attributes.
    """
    exam = read_exam(room(Archive), place.caller, study)
    others = [each for each in list_exams(room(Archive), place.caller) if each.study_instance_uid != study]
    first = exam.find(request.args.get("image", "")) or exam.first
    answer = film_page(
        "film_images.html", place, script="images", exam=exam, others=others, first=first,
        words=words("viewer."),
        reports=[each for each in _reports(room(Records), place) if _is_of(each, exam)],
    )  # fmt: skip
    if first is not None:  # asked for before the page is read: an old phone reads slowly
        picture = f"{place.base}/studies/{study}/preview/{first.path}?side={PREVIEW_SIDES[-1]}"
        style = "</assets/film.css>; rel=preload; as=style"
        answer.headers["Link"] = f"<{picture}>; rel=preload; as=image; fetchpriority=high, {style}"
    return answer


@page("/studies/<study>/preview/<series>/<instance>/<int:frame>")
def preview(place: Place, study: str, series: str, instance: str, frame: int) -> AnyResponse:
    """One image as a JPEG with the visitor's watermark drawn into it."""
    archive = room(Archive)
    stored = find_instance(archive, place.caller, study, series, instance)
    asked = request.args.get("side", type=int) or PREVIEW_SIDES[-1]
    side = next((each for each in PREVIEW_SIDES if each >= asked), PREVIEW_SIDES[-1])
    quality = 82 if side > PREVIEW_SIDES[1] else 70
    marks = place.watermark if side > PREVIEW_SIDES[0] else place.watermark[:1]
    rendering = Rendering(viewport=Viewport(side, side), quality=quality, watermark=marks, enlarge=False)
    drawn = render_frame(archive, stored, frame, rendering)
    answer = Response(drawn.data, mimetype=drawn.media_type)
    answer.headers["Cache-Control"] = "no-store"
    return answer


@page("/studies/<study>/thumbnail")
def thumbnail(place: Place, study: str) -> AnyResponse:
    """The image that stands for an examination in a list."""
    archive = room(Archive)
    stored = find_middle(archive, place.caller, study)
    if not stored.number_of_frames:
        return Response(status=404)
    side = PREVIEW_SIDES[0]
    rendering = Rendering(
        viewport=Viewport(side, side), quality=70, watermark=place.watermark[:1], enlarge=False
    )
    drawn = render_frame(archive, stored, (stored.number_of_frames + 1) // 2, rendering)
    answer = Response(drawn.data, mimetype=drawn.media_type)
    answer.headers["Cache-Control"] = "no-store"
    return answer


@page("/studies/<study>/overview/<series>/<int:sheet>")
def overview(place: Place, study: str, series: str, sheet: int) -> AnyResponse:
    """Small pictures of some images of a series in one JPEG, each with the visitor's watermark."""
    drawn = draw_sheet(room(Archive), place.caller, study, series, sheet, place.watermark[:1])
    answer = Response(drawn, mimetype=JPEG)
    answer.headers["Cache-Control"] = "no-store"
    return answer


@page("/ohif/<path:name>")
def diagnostic(place: Place, name: str) -> AnyResponse:
    """The diagnostic viewer on what may be seen here, for a physician with a large screen."""
    base = f"{place.base}/ohif/"
    if name == "app-config.js":
        return ohif.configuration(base, place.data)
    return ohif.page(base, f"{place.base}/watermark.svg" if place.watermark else "")


@page("/reports/<report_id>")
def report(place: Place, report_id: str) -> AnyResponse:
    """One report, to read and to print."""
    found = report_of(room(Records), place.caller, report_id)
    exam = next((each for each in list_exams(room(Archive), place.caller) if _is_of(found, each)), None)
    return film_page("film_report.html", place, report=found, exam=exam)


@page("/reports/<report_id>.pdf")
def report_pdf(place: Place, report_id: str) -> AnyResponse:
    """One report as PDF: as it came, else drawn from its text; marked on every page."""
    found = report_of(room(Records), place.caller, report_id)
    own = pdf_of(found)
    if own:
        content = mark_pdf(own, place.watermark)
    else:
        exam = next((each for each in list_exams(room(Archive), place.caller) if _is_of(found, each)), None)
        name = exam.patient_name if exam else ""
        content = draw_report(
            found, exam, masked_name(name) if place.is_visit else name, place.watermark, say
        )
    answer = Response(content, mimetype="application/pdf")
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Content-Disposition"] = f'inline; filename="report-{found.id[:8]}.pdf"'
    return answer


@page("/reports/<report_id>/pictures/<int:number>")
def report_picture(place: Place, report_id: str, number: int) -> AnyResponse:
    """A picture that came with a report."""
    content, media_type = picture_of(report_of(room(Records), place.caller, report_id), number)
    answer = Response(content, mimetype=media_type or "image/png", status=200 if content else 404)
    answer.headers["Cache-Control"] = "no-store"
    return answer


@page("/watermark.svg")
def watermark(place: Place) -> AnyResponse:
    """The watermark as a picture that pages lay over what they show."""
    svg = watermark_svg(place.watermark)
    answer = Response(svg, mimetype="image/svg+xml")
    answer.headers["Cache-Control"] = "no-store"
    return answer


def watermark_svg(lines: tuple[str, ...]) -> str:
    """Tiles of slanted text, light enough to read through."""
    rows = "".join(
        f'<text x="10" y="{60 + 20 * number}" transform="rotate(-20 130 70)">{_escaped(line)}</text>'
        for number, line in enumerate(lines)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="100%" height="100%"><defs><pattern id="t" '
        'width="270" height="150" patternUnits="userSpaceOnUse"><g font-family="sans-serif" font-size="14" '
        f'fill="#5f7f95" fill-opacity=".24">{rows}</g></pattern></defs>'
        '<rect width="100%" height="100%" fill="url(#t)"/></svg>'
    )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@page("/share", "GET", "POST")
def share_on(place: Place) -> AnyResponse:
    """Share examinations on: with family, or with a doctor elsewhere. Shows the code and the link once."""
    archive, access = room(Archive), room(Access)
    exams = list_exams(archive, place.caller)
    chosen = tuple(request.values.getlist("study"))
    institution = next(
        (each.institution for each in exams if each.study_instance_uid in chosen), place.institution
    )
    policy = policy_of(access, institution)
    made, message = None, ""
    if request.method == "POST":
        form = request.form
        terms = Terms(
            binding=form.get("binding", "phone"),
            phone=form.get("phone", ""),
            passcode=form.get("passcode", ""),
            account=form.get("account", ""),
            days=form.get("days", type=int) or policy.link_days,
            with_report=bool(form.get("report")),
            download=bool(form.get("download")) and policy.download and place.may_download,
            recipient=form.get("recipient", ""),
        )
        try:
            made = share_studies(archive, access, place.caller, chosen, terms)
        except CloudfilmError as refusal:
            if refusal.kind is not Kind.UNPROCESSABLE:
                raise
            message = say("film.share-wrong", reason=told(refusal))
    link = share_url(made.secret) if made else ""
    return film_page(
        "film_share.html", place, script="share", exams=exams, chosen=chosen, policy=policy, made=made,
        link=link, qr=qr_picture(link, say("film.qr")) if link else "", message=message, form=request.form,
        bindings=[each for each in _bindings() if each in policy.bindings],
        days=[each for each in (1, 3, 7, 30, 90, 365) if each <= policy.most_days],
    )  # fmt: skip


def _bindings() -> tuple[str, ...]:
    """How a patient may bind a share here: to a WeChat user where the site has an official account."""
    has_wechat = account_of_site(room(Messaging)) is not None
    return ("phone", *(("wechat",) if has_wechat else ()), "account", "passcode", "bearer")


@page("/health-link", "POST")
def health_link(place: Place) -> AnyResponse:
    """Export an examination as a SMART Health Link."""
    form = request.form
    chosen = tuple(form.getlist("study"))
    link = make_health_link(place, chosen, form.get("passcode", ""), HEALTH_LINK_DAYS)
    return film_page(
        "film_health_link.html", place, script="share", link=link, qr=qr_picture(link, say("film.qr"), 5)
    )


@page("/shares", "GET", "POST")
def shares(place: Place) -> AnyResponse:
    """What was shared, with whom and until when; each can be ended at once."""
    access = room(Access)
    if request.method == "POST":
        revoke_grant(access, place.caller, request.form.get("grant", ""))
        return redirect(f"{place.base}/shares", 303)
    exams = {each.study_instance_uid: each for each in list_exams(room(Archive), place.caller)}
    return film_page("film_shares.html", place, grants=list_grants(access, place.caller), exams=exams)


@page("/family", "GET", "POST")
def family(place: Place) -> AnyResponse:
    """Who else may open the patient's paper codes: family, a carer."""
    access, message = room(Access), ""
    own = own_patients(place.caller)
    if request.method == "POST":
        form = request.form
        try:
            if form.get("remove"):
                remove_person(access, place.caller, form["remove"])
            else:
                for patient in sorted(own)[:1]:
                    add_person(
                        access, place.caller, patient, form.get("phone", ""), form.get("name", ""),
                        form.get("relation", "other"),
                    )  # fmt: skip
        except CloudfilmError as refusal:
            if refusal.kind is not Kind.UNPROCESSABLE:
                raise
            message = say("film.phone-wrong")
        else:
            return redirect(f"{place.base}/family", 303)
    return film_page(
        "film_family.html", place, script="share", persons=list_persons(access, place.caller, own),
        relations=RELATIONS, message=message, may_add=bool(own),
    )  # fmt: skip


SEEN_ACTIONS = frozenset(  # what people did; our own jobs look at nothing
    {
        "read ImagingStudy",
        "show DiagnosticReport",
        "open Share",
        "send code",
        "prove phone",
        "try passcode",
        "create Share",
        "delete Share",
        "break glass",
        "add authorized person",
    }
)


@page("/seen")
def seen(place: Place) -> AnyResponse:
    """Who has seen it: every access to the patient's images and reports, the newest first."""
    entries = [
        each
        for each in seen_by(room(Access), place.caller, own_patients(place.caller))
        if each.action in SEEN_ACTIONS and each.principal_kind != PrincipalKind.SYSTEM
    ]
    access = room(Access)
    with access.database.snapshot() as session:
        sharing = sharing_of(session)
    places = {each.address: sharing.place_of(each.address) for each in entries}
    return film_page("film_seen.html", place, entries=entries, places=places)


@page("/leave", "POST")
def leave(place: Place) -> AnyResponse:
    """End this visit on this device."""
    if place.visit is not None:
        end_visit(room(Access), place.visit)
    answer = film_page("film_message.html", None, topic="left", detail="", contact="")
    answer.headers["Clear-Site-Data"] = '"cache", "storage"'
    return answer
