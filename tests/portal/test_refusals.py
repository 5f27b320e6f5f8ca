"""Refusals, reasons and the audit trail in the language of the page; what is kept stays as it was."""

import ast
import re
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from access.caller import Caller
from cloudfilm.documents import DOCUMENTS
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from portal.catalogue import LANGUAGES, texts
from portal.refusals import phrases, told
from tests.access.test_outgoing import sources
from tests.portal.test_console import OWN_PAGE, enter

SHOWN_BY_PAGES = ("kernel/throttle.py", "archive/shares.py", "mpi/links.py", "mpi/review.py")
COMMAND_LINE_ONLY = {"InvalidSetting"}
NOTES = {"note": 3, "note_once": 4, "Noted": 0}  # which argument the action is


@pytest.fixture
def browser(rooms: Rooms) -> FlaskClient:
    return create_app(rooms).test_client()


def template(said: ast.expr) -> str:
    """A text as it is written, with `{}` for each value."""
    if isinstance(said, ast.Constant):
        return said.value if isinstance(said.value, str) else ""
    if isinstance(said, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in said.values)
    if isinstance(said, ast.BinOp):
        return (template(said.left) or "{}") + (template(said.right) or "{}")
    return ""


def refusals() -> Iterator[tuple[str, str]]:
    """Every sentence with which a room refuses what a page asks of it, and where it stands."""
    kinds = {f"{each.check.__module__.replace('.', '/')}.py" for each in DOCUMENTS}
    for file, module in sources():
        if not (file.startswith(("access/", "messaging/")) or file in kinds or file in SHOWN_BY_PAGES):
            continue
        for node in ast.walk(module):
            call = node.exc if isinstance(node, ast.Raise) else node
            if not isinstance(call, ast.Call):
                continue
            name = ast.unparse(call.func)
            if name != "super().__init__" and (not isinstance(node, ast.Raise) or name in COMMAND_LINE_ONLY):
                continue
            for said in map(template, call.args):
                if " " in said and said != "{}: {}":
                    yield f"{file}:{call.lineno}", said


def test_every_sentence_of_a_refusal_is_in_the_chinese_book() -> None:
    missing = [f"{where}: {said}" for where, said in refusals() if said not in phrases("zh")]

    assert missing == []


def test_every_action_of_the_trail_has_its_words() -> None:
    actions = {
        (file, action.replace("{}", "ImagingStudy"))
        for file, module in sources()
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
        and (at := NOTES.get(ast.unparse(node.func).rpartition(".")[2])) is not None
        and len(node.args) > at
        and not (action := template(node.args[at])).startswith("{}")
        and action
    } | {("", f"{verb} Patient") for verb in ("create", "update", "delete")}

    assert ("archive/retrieve.py", "read ImagingStudy") in actions
    for words in map(texts, LANGUAGES):
        missing = [
            (file, action)
            for file, action in sorted(actions)
            for verb, _, what in [action.partition(" ")]
            if f"act.{action}" not in words
            and not {f"act-on.{verb}", f"type.{what.removeprefix('labels of ')}"} <= words.keys()
        ]
        assert missing == []


@pytest.mark.parametrize(
    ("said", "chinese"),
    [
        ("No account has this name.", "没有此用户名的账户。"),
        ("A share lives 1 to 90 days.", "分享的有效期为 1 至 90 天。"),
        ("host: a name or an address", "地址：主机名或地址"),
        ("The role is physician; it reaches department.", "角色为“临床医师”，可及：本科室。"),
        ("You may not do this: review it. Somebody else has to.", "您没有权限：复核此项。须由他人复核。"),
        ("You may not do this: Node.s.", "您没有权限：Node.s。"),
        ("夜间院外不得下载。", "夜间院外不得下载。"),  # a site's own reason
    ],
)
def test_a_refusal_is_told_in_chinese_with_its_values(said: str, chinese: str) -> None:
    assert told(said, "zh") == chinese
    assert told(said, "en") == said


def test_chinese_pages_say_refusals_reasons_and_actions_in_chinese(
    rooms: Rooms, browser: FlaskClient, operator: Caller
) -> None:
    enter(rooms, browser, operator, "security_administrator")

    def shown(path: str, **values: str) -> str:
        ask = browser.post if values else browser.get
        return str(
            ask(f"{path}{'&' if '?' in path else '?'}lang=zh", data=values or None, headers=OWN_PAGE).text
        )

    assert "用户名为 2 至 64 位字母" in shown("/admin/accounts", login="!", role="physician", password="x")
    assert "可及：无临床资料" in shown("/admin/explain?login=person&action=ImagingStudy.r")
    refused = browser.get("/admin/audit?lang=zh")
    assert (refused.status_code, "您没有权限：AuditTrail.s" in refused.text) == (403, True)

    enter(rooms, browser, operator, "audit_administrator", "auditor")
    trail = shown("/admin/audit")
    assert all(each in trail for each in ("新建账户", "登录", "成功"))
    assert "<td>create Account" not in re.sub(r"<td [^>]*>", "<td>", trail)
