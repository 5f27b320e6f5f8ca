"""Federation with a hospital's OpenID provider: a second cloudfilm that runs, and forged answers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import RSAKey
from sqlalchemy import Text, select, type_coerce, update
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from access.accounts import account_of, create_account
from access.caller import Caller, Door, operator
from access.federation import FEDERATION, InvalidFederation, link_account, parse_providers
from access.model import Account
from access.oauth.clients import register_client
from access.site_documents import put_document
from access.tokens import SESSION, caller_of
from cloudfilm.migrate import migrate
from cloudfilm.rooms import Rooms, build_rooms
from cloudfilm.web import create_app
from kernel.clock import SystemClock
from kernel.settings import AccessSettings, BlobsSettings, DatabaseSettings, Settings

PASSWORD = "Correct-Horse-7"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
APPROVED = ("response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge",
            "code_challenge_method")  # fmt: skip


def rooms_in(folder: Path, **access: Any) -> Rooms:
    settings = Settings(
        data_dir=folder,
        database=DatabaseSettings(url=f"sqlite:///{folder}/cloudfilm.db"),
        blobs=BlobsSettings(url=f"file://{folder}/blobs", durable=False),
        access=AccessSettings(**access),
    )
    migrate(settings.database.url)
    return build_rooms(settings, SystemClock())


@contextmanager
def served(app: Any) -> Iterator[int]:
    """An application on a port of its own."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()


@dataclass
class Two:
    """Our site and the hospital's, and a browser."""

    ours: Rooms
    our_url: str
    hospital_url: str
    subject: str
    client_id: str
    browser: requests.Session

    def federate(self, **fields: Any) -> None:
        """Name the hospital in our document."""
        provider = {
            "id": "xh", "name": "Xiehe", "issuer": self.hospital_url, "client_id": self.client_id, **fields
        }  # fmt: skip
        put_document(self.ours.access, operator(), FEDERATION, json.dumps({"providers": [provider]}))

    def travel(self) -> requests.Response:
        """The whole way through the browser: leave, sign in there, approve, come back."""
        left = self.browser.get(f"{self.our_url}/sign-in/with/xh?next=/my/access", allow_redirects=False)
        assert left.status_code == 303, left.text
        asked = {
            name: values[0] for name, values in parse_qs(urlsplit(left.headers["Location"]).query).items()
        }
        assert "aud" not in asked  # a plain OpenID client knows nothing of SMART's audience
        self.browser.post(
            f"{self.hospital_url}/sign-in", {"login": "zhang", "password": PASSWORD}, headers=OWN_PAGE,
            allow_redirects=False,
        )  # fmt: skip
        assert self.browser.get(left.headers["Location"]).status_code == 200
        approved = self.browser.post(
            f"{self.hospital_url}/oauth/approve",
            {**{name: asked[name] for name in APPROVED}, "decision": "approve"},
            headers=OWN_PAGE, allow_redirects=False,
        )  # fmt: skip
        assert approved.status_code == 303, approved.text
        return self.browser.get(approved.headers["Location"], allow_redirects=False)

    def caller(self) -> Caller:
        """Who the browser is at our site."""
        secret = next(
            each.value for each in self.browser.cookies
            if each.name == "cloudfilm_session" and each.domain.startswith("localhost")
        )  # fmt: skip
        return caller_of(self.ours.access, str(secret), (SESSION,), Door.WEB, "")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """The hospital at 127.0.0.1 and our site at localhost: cookies do not tell ports apart."""
    hospital = rooms_in(tmp_path / "hospital")
    with served(create_app(hospital)) as hospital_port:
        ours = rooms_in(
            tmp_path / "ours", trusted_key_hosts=(f"127.0.0.1:{hospital_port}",),
            federation_secrets=("xh:to-be-replaced",),
        )  # fmt: skip
        with served(create_app(ours)) as our_port:
            our_url = f"http://localhost:{our_port}"
            with hospital.database.transaction() as session:
                subject = create_account(
                    hospital.access, session, operator(), "zhang", PASSWORD, "physician", name="张医生"
                )
            client = register_client(
                hospital.access, operator(),
                {"client_name": "Film", "redirect_uris": [f"{our_url}/sign-in/with/xh/back"],
                 "token_endpoint_auth_method": "none", "grant_types": ["authorization_code"]},
            )  # fmt: skip
            browser = requests.Session()
            browser.trust_env = False
            yield Two(
                ours, our_url, f"http://127.0.0.1:{hospital_port}", subject, client["client_id"], browser
            )
        ours.close()
    hospital.close()


def test_a_linked_account_signs_in_at_its_hospital(two: Two) -> None:
    two.federate()
    with two.ours.database.transaction() as session:
        create_account(
            two.ours.access, session, operator(), "zhang2", PASSWORD, "physician", institution="XH"
        )
    assert two.travel().status_code == 401  # known to the hospital, not to us
    link_account(two.ours.access, operator(), "zhang2", two.hospital_url, two.subject)

    back = two.travel()

    assert (back.status_code, back.headers["Location"]) == (303, "/my/access")
    assert two.caller().principal.role == "physician"
    link_account(two.ours.access, operator(), "zhang2", "", "")
    assert two.travel().status_code == 401


def test_an_account_is_made_at_the_first_sign_in_where_the_hospitals_row_says_so(two: Two) -> None:
    two.federate(makes={"role": "physician", "institution": "XH"})

    assert two.travel().status_code == 303
    first = two.caller().principal
    assert two.travel().status_code == 303

    assert (first.name, first.role, first.institution) == ("张医生", "physician", "XH")
    assert two.caller().principal == first
    with two.ours.database.transaction() as session:
        account = session.get_one(Account, first.id)
        assert not account.password
        account.disabled = True
    assert two.travel().status_code == 401


def test_an_answer_counts_once_and_in_its_own_browser_only(two: Two) -> None:
    two.federate(makes={"role": "physician", "institution": "XH"})
    gone: list[str] = []
    two.browser.hooks["response"].append(
        lambda answer, **_: gone.append(answer.url) if "/back?" in answer.url else None
    )
    assert two.travel().status_code == 303

    assert two.browser.get(gone[0], allow_redirects=False).status_code == 401
    assert requests.get(gone[0], allow_redirects=False, timeout=10).status_code == 401
    assert two.browser.get(f"{two.our_url}/sign-in/with/nobody", allow_redirects=False).status_code == 401


def test_the_sign_in_page_names_the_hospitals(two: Two) -> None:
    two.federate(name="<b>Xiehe</b>")

    assert "&lt;b&gt;Xiehe" in two.browser.get(f"{two.our_url}/sign-in?lang=en").text


class Forger:
    """A provider that answers what a test tells it to."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "k1"})
        self.issuer = ""
        self.claims: dict[str, Any] = {}
        self.sign: Callable[[dict[str, Any]], str] = lambda claims: jwt.encode(
            {"alg": "RS256", "kid": "k1"}, claims, self.key
        )

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        bodies: dict[str, Any] = {
            "/.well-known/openid-configuration": {
                "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token", "jwks_uri": f"{self.issuer}/keys",
            },
            "/keys": {"keys": [self.key.as_dict(private=False)]},
        }  # fmt: skip
        if request.path == "/token":
            bodies["/token"] = {"id_token": self.sign(self.claims)}
        return Response(json.dumps(bodies[request.path]), mimetype="application/json")(
            environ, start_response
        )


@pytest.fixture
def forged(tmp_path: Path) -> Iterator[tuple[Forger, Any, Rooms]]:
    """Our site with the forger as a provider that makes accounts."""
    forger = Forger()
    with served(forger) as port:
        forger.issuer = f"http://127.0.0.1:{port}"
        ours = rooms_in(tmp_path, trusted_key_hosts=(f"127.0.0.1:{port}",))
        provider = {
            "id": "xh", "name": "X", "issuer": forger.issuer, "client_id": "film",
            "makes": {"role": "physician", "institution": "XH"},
        }  # fmt: skip
        put_document(ours.access, operator(), FEDERATION, json.dumps({"providers": [provider]}))
        yield forger, create_app(ours).test_client(), ours
        ours.close()


WRONG: dict[str, dict[str, Any]] = {
    "issuer": {"iss": "http://elsewhere.example"},
    "audience": {"aud": "another"},
    "audiences without a party": {"aud": ["film", "another"]},
    "over": {"exp": 1},
    "no end": {"exp": None},
    "from the future": {"iat": 99999999999},
    "nonce": {"nonce": "replayed"},
    "no nonce": {"nonce": None},
    "no subject": {"sub": None},
    "long subject": {"sub": "x" * 400},
}


def come_back(forger: Forger, browser: Any, **changes: Any) -> Any:
    left = browser.get("/sign-in/with/xh")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(left.headers["Location"]).query).items()}
    now = int(SystemClock().now().timestamp())
    claims = {
        "iss": forger.issuer, "aud": "film", "sub": "s1", "name": "S", "nonce": asked["nonce"],
        "iat": now, "exp": now + 60, **changes,
    }  # fmt: skip
    forger.claims = {name: value for name, value in claims.items() if value is not None}
    return browser.get(f"/sign-in/with/xh/back?code=c&state={asked['state']}")


def test_a_right_answer_of_the_same_provider_signs_in(forged: tuple[Forger, Any, Rooms]) -> None:
    forger, browser, _ = forged

    assert come_back(forger, browser, amr=["pwd", {"odd": 1}]).status_code == 303


@pytest.mark.parametrize("kind", WRONG)
def test_an_id_token_with_a_wrong_claim_signs_nobody_in(forged: tuple[Forger, Any, Rooms], kind: str) -> None:
    forger, browser, _ = forged

    assert come_back(forger, browser, **WRONG[kind]).status_code == 401


def test_an_id_token_of_another_key_or_none_or_a_shared_secret_signs_nobody_in(
    forged: tuple[Forger, Any, Rooms],
) -> None:
    forger, browser, _ = forged
    other = RSAKey.generate_key(2048, {"kid": "k1"})
    unsigned = "eyJhbGciOiJub25lIn0"
    signers: tuple[Callable[[dict[str, Any]], str], ...] = (
        lambda claims: jwt.encode({"alg": "RS256", "kid": "k1"}, claims, other),
        lambda claims: f"{unsigned}.{jwt.encode({'alg': 'RS256'}, claims, other).split('.')[1]}.",
        lambda claims: "nonsense",
    )
    for forger.sign in signers:
        assert come_back(forger, browser).status_code == 401


def test_a_provider_that_calls_itself_another_is_not_gone_to(forged: tuple[Forger, Any, Rooms]) -> None:
    forger, browser, _ = forged
    forger.issuer = "http://elsewhere.example"

    assert browser.get("/sign-in/with/xh").status_code == 503


def test_a_name_that_somebody_else_has_is_not_taken_over(forged: tuple[Forger, Any, Rooms]) -> None:
    forger, browser, ours = forged
    assert come_back(forger, browser).status_code == 303
    with ours.database.transaction() as session:
        login = session.query(Account.login).filter(Account.federated != "").scalar()
        session.query(Account).update({"federated": "", "federated_index": ""})

    assert come_back(forger, browser).status_code == 401
    assert account_of(ours.access, str(login)).federated == ""


def test_a_hash_of_ones_identity_in_the_row_of_another_does_not_sign_in_there(
    forged: tuple[Forger, Any, Rooms],
) -> None:
    forger, browser, ours = forged
    assert come_back(forger, browser).status_code == 303
    with ours.database.transaction() as session:
        create_account(ours.access, session, operator(), "victim", "Right-Horse-9", "operator")
        linked = select(Account.federated_index).where(Account.federated_index != "")
        index = type_coerce(session.scalars(linked).one(), Text)
        session.execute(update(Account).values(federated_index=""))
        session.execute(update(Account).where(Account.login == "victim").values(federated_index=index))

    assert come_back(forger, browser).status_code == 401


def test_a_link_from_before_links_were_sealed_signs_in(forged: tuple[Forger, Any, Rooms]) -> None:
    forger, browser, ours = forged
    assert come_back(forger, browser).status_code == 303
    with ours.database.transaction() as session:
        linked = str(session.query(Account.federated).filter(Account.federated != "").scalar())
        session.query(Account).update({"federated": type_coerce(linked, Text), "federated_index": ""})

    assert come_back(forger, browser).status_code == 303


@pytest.mark.parametrize(
    "change",
    [
        {"id": "Not A Name"}, {"issuer": "ftp://x"}, {"scope": "profile"}, {"client_id": ""}, {"more": 1},
        {"makes": {"role": "operator", "institution": "X"}},
        {"makes": {"role": "audit_administrator", "institution": "X"}}, {"makes": {"role": "physician"}},
        {"makes": 1},
    ],
)  # fmt: skip
def test_a_wrong_row_is_refused(change: dict[str, Any]) -> None:
    row = {"id": "xh", "name": "X", "issuer": "https://id.example.org", "client_id": "film"}
    assert replace(parse_providers(json.dumps({"providers": [row]}))[0], name="Y").issuer == row["issuer"]
    with pytest.raises(InvalidFederation):
        parse_providers(json.dumps({"providers": [{**row, **change}]}))
