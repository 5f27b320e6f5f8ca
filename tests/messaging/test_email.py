"""E-mail by a server that speaks SMTP, in the clear, after STARTTLS and over TLS from the start."""

import base64
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any, ClassVar

import pytest

from access.caller import Caller
from cloudfilm.rooms import Rooms
from messaging.gateways import put_gateways
from messaging.send import NotSent, deliver_message, queue_message
from tests.certificates import Authority
from tests.messaging.test_gateways import state

USER, PASSWORD = "film", "Geheim-5"
VALUES = {"exam": "胸部 CT", "institution": "MAIN", "link": "/patient/reports/r1"}


@dataclass
class MailServer:
    """What a mail server is told to do, and what it saw."""

    port: int = 0
    refuses: str = ""  # the verb that it refuses
    tls: ssl.SSLContext | None = None
    offers_starttls: bool = True
    received: list[bytes] = field(default_factory=list)
    seen_in_clear: bytes = b""  # every line before the connection was encrypted
    authenticated: list[tuple[str, str]] = field(default_factory=list)


class Session(socketserver.BaseRequestHandler):
    """As much of SMTP as a client needs (RFC 5321), with STARTTLS (RFC 3207) and AUTH PLAIN (RFC 4954)."""

    about: ClassVar[MailServer]
    implicit: ClassVar[bool]

    def handle(self) -> None:
        """One connection."""
        self.is_secret = False
        try:
            self._talk()
        except (ssl.SSLError, ConnectionError):
            return  # the client did not like our certificate

    def _talk(self) -> None:
        if self.implicit:
            self._encrypt()
        else:
            self._lines()
        self._say("220 mail")
        while line := self._line():
            if not self._answer(line.decode().strip()):
                return

    def _encrypt(self) -> None:
        assert self.about.tls is not None
        self.request = self.about.tls.wrap_socket(self.request, server_side=True)
        self.is_secret = True
        self._lines()

    def _lines(self) -> None:
        self.reader = self.request.makefile("rb")

    def _line(self) -> bytes:
        line: bytes = self.reader.readline()
        if not self.is_secret:
            self.about.seen_in_clear += line
        return line

    def _say(self, *lines: str) -> None:
        self.request.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def _answer(self, line: str) -> bool:
        verb = line.upper()
        needs_tls = self.about.tls is not None and not self.is_secret
        if self.about.refuses and verb.startswith(self.about.refuses):
            self._say("550 no" if verb.startswith("RCPT") else "451 later")
        elif verb.startswith("EHLO"):
            offered = "250 STARTTLS" if needs_tls and self.about.offers_starttls else "250 AUTH PLAIN"
            self._say("250-mail", offered)
        elif verb == "STARTTLS" and needs_tls:
            self._say("220 go on")
            self._encrypt()
        elif needs_tls and verb.startswith(("AUTH", "MAIL", "RCPT")):
            self._say("530 Must issue a STARTTLS command first")
        elif verb.startswith("AUTH PLAIN"):
            _, user, password = base64.b64decode(line.split()[2]).decode().split("\0")
            self.about.authenticated.append((user, password))
            self._say("235 welcome" if (user, password) == (USER, PASSWORD) else "535 no")
        elif verb == "DATA":
            self._say("354 go on")
            self.about.received.append(b"".join(iter(self._line, b".\r\n")))
            self._say("250 taken")
        elif verb == "QUIT":
            self._say("221 bye")
            return False
        else:
            self._say("250 ok")
        return True


@pytest.fixture
def serving() -> Iterator[Any]:
    """Starts mail servers."""
    servers: list[socketserver.ThreadingTCPServer] = []

    def serve(about: MailServer, implicit: bool = False) -> MailServer:
        handler = type("OneServers", (Session,), {"about": about, "implicit": implicit})
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        about.port = server.server_address[1]
        return about

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """An authority that this machine trusts."""
    made = Authority(tmp_path / "authority")
    monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
    return made


def tls_of(authority: Authority) -> ssl.SSLContext:
    issued = authority.issue("mail")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    return context


def send_by(rooms: Rooms, operator: Caller, server: MailServer, security: str, **more: str) -> str:
    """Queue a notice for a gateway at this server and try to send it; returns the message's id."""
    gateway = {"host": "127.0.0.1", "port": server.port, "from": "film@example.org", "security": security}
    put_gateways(rooms.messaging, operator, json.dumps({"email": gateway | more}))
    with rooms.database.transaction() as session:
        message_id = queue_message(
            rooms.messaging, session, "email", "wei@example.org", "report-ready", VALUES
        )
    deliver_message(rooms.messaging, message_id)
    return message_id


def test_an_e_mail_says_that_there_is_something_and_not_what(
    rooms: Rooms, operator: Caller, serving: Any
) -> None:
    mail = serving(MailServer())

    message_id = send_by(rooms, operator, mail, "none")

    told = message_from_bytes(mail.received[0], policy=policy.default)
    assert (told["To"], told["From"]) == ("wei@example.org", "film@example.org")
    assert told["Subject"] == "报告已发布"
    assert "报告已发布" in told.get_content()
    assert "CT" not in told.get_content()
    assert (state(rooms, message_id).state, state(rooms, message_id).masked) == ("sent", "email")


def test_a_mail_server_that_knows_no_such_address_is_not_asked_again(
    rooms: Rooms, operator: Caller, serving: Any
) -> None:
    message_id = send_by(rooms, operator, serving(MailServer(refuses="RCPT")), "none")

    assert state(rooms, message_id).state == "failed"


def test_a_mail_server_that_refuses_for_now_is_asked_again(
    rooms: Rooms, operator: Caller, serving: Any
) -> None:
    with pytest.raises(NotSent):
        send_by(rooms, operator, serving(MailServer(refuses="MAIL")), "none")


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_name_password_and_letter_go_encrypted(
    rooms: Rooms, operator: Caller, serving: Any, authority: Authority, security: str
) -> None:
    mail = serving(MailServer(tls=tls_of(authority)), implicit=security == "tls")

    message_id = send_by(rooms, operator, mail, security, user=USER, password=PASSWORD)

    assert state(rooms, message_id).state == "sent"
    assert mail.authenticated == [(USER, PASSWORD)]
    assert message_from_bytes(mail.received[0], policy=policy.default)["Subject"] == "报告已发布"
    spoken = mail.seen_in_clear.upper().split(b"\r\n")
    assert all(line.startswith((b"EHLO", b"STARTTLS")) or not line for line in spoken)


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_server_whose_certificate_nobody_vouches_for_is_told_nothing(
    rooms: Rooms, operator: Caller, serving: Any, authority: Authority, tmp_path: Path, security: str
) -> None:
    stranger = Authority(tmp_path / "stranger")
    mail = serving(MailServer(tls=tls_of(stranger)), implicit=security == "tls")

    with pytest.raises(NotSent, match="SSLCertVerificationError"):
        send_by(rooms, operator, mail, security, user=USER, password=PASSWORD)

    assert (mail.authenticated, mail.received) == ([], [])
    assert b"AUTH" not in mail.seen_in_clear


def test_who_hides_starttls_on_the_way_gets_neither_password_nor_letter(
    rooms: Rooms, operator: Caller, serving: Any, authority: Authority
) -> None:
    mail = serving(MailServer(tls=tls_of(authority), offers_starttls=False))

    with pytest.raises(NotSent, match="SMTPNotSupportedError"):
        send_by(rooms, operator, mail, "starttls", user=USER, password=PASSWORD)

    assert (mail.authenticated, mail.received) == ([], [])
    assert b"AUTH" not in mail.seen_in_clear


def test_a_wrong_password_is_said_where_administrators_look(
    rooms: Rooms, operator: Caller, serving: Any, authority: Authority
) -> None:
    mail = serving(MailServer(tls=tls_of(authority)), implicit=True)

    with pytest.raises(NotSent, match="email: SMTPAuthenticationError"):
        send_by(rooms, operator, mail, "tls", user=USER, password="wrong")

    assert mail.received == []
