"""A site with two patients and browsers without a screen, for tests of the film pages at the web's doors."""

from datetime import timedelta
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from access.caller import operator
from access.grants import Terms
from access.share_policy import SHARING
from access.site_documents import put_document
from archive.shares import share_accession_number, share_studies
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from kernel.clock import FixedClock
from tests.sharing import PHONE, last_code, two_patients

OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
LIMITS = '{"limits": {"again_after_s": 1, "phone_an_hour": 1000, "phone_a_day": 1000, "share_an_hour": 1000}}'


class World:
    """A site with patients A and B, and browsers."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.app = create_app(rooms)
        self.operator = operator()
        put_document(rooms.access, self.operator, SHARING, LIMITS)
        self.a, self.b, self.patient_a, self.patient_b = two_patients(rooms)

    def browser(self) -> FlaskClient:
        return self.app.test_client()

    def post(self, browser: FlaskClient, path: str, **body: Any) -> TestResponse:
        return browser.post(path, json=body, headers=OWN_PAGE)

    def link(self, studies: tuple[str, ...] = (), **terms: Any) -> tuple[str, str]:
        """Id and secret of a share, of A's study unless others are named."""
        made = share_studies(
            self.rooms.archive,
            self.rooms.access,
            self.operator,
            studies or (self.a,),
            Terms(**{"binding": "bearer", **terms}),
        )
        return made.id, made.secret

    def paper(self) -> tuple[str, str]:
        made = share_accession_number(
            self.rooms.archive, self.rooms.access, self.operator, "A0001", "MAIN", Terms()
        )
        return made.id, made.secret

    def visitor(self, **terms: Any) -> tuple[FlaskClient, str]:
        """A browser that was let in by a bearer's link, and the path of the share."""
        browser = self.browser()
        _, secret = self.link(**terms)
        self.post(browser, "/share/begin", secret=secret)
        told = self.post(browser, "/share/enter").get_json()
        return browser, str(told["to"])

    def patient(self, phone: str = PHONE) -> tuple[FlaskClient, str]:
        """A browser that scanned the paper code and proved a phone."""
        browser = self.browser()
        _, secret = self.paper()
        self.post(browser, "/share/begin", secret=secret)
        self.tick()
        self.post(browser, "/share/code", phone=phone)
        return browser, str(self.post(browser, "/share/enter", code=last_code(self.rooms)).get_json()["to"])

    def tick(self, **by: float) -> None:
        clock = self.rooms.clock
        assert isinstance(clock, FixedClock)
        clock.advance(timedelta(**(by or {"seconds": 61})))
