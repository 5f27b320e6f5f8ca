"""Signed URLs: what a browser fetches without a session, as long as who had them signed may see it."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from access.model import Token
from access.tokens import digest_of, revoke
from archive.placing import Ingested
from kernel.clock import FixedClock
from tests.builders import ct_slice
from tests.dicomweb.conftest import Service, path_of


@pytest.fixture(scope="module")
def image(service: Service) -> Ingested:
    return service.store(ct_slice(51))


def sign(service: Service, *urls: str, token: str = "", **more: int) -> list[str]:
    answer = service.client.post(
        "/dicomweb/signed-urls", json={"urls": urls, **more},
        headers={"Authorization": f"Bearer {token or service.token}"},
    )  # fmt: skip
    assert answer.status_code == 200, answer.data
    return [str(url) for url in answer.get_json()["urls"]]


def test_a_signed_url_opens_what_it_names_without_any_header(service: Service, image: Ingested) -> None:
    path = f"/dicomweb{path_of(image)}"
    urls = sign(
        service, f"{path}/rendered?viewport=8,8&quality=50", f"{path}/thumbnail", path, f"{path}/frames/1",
        f"/dicomweb/wado?requestType=WADO&studyUID={image.study_instance_uid}"
        f"&seriesUID={image.series_instance_uid}&objectUID={image.sop_instance_uid}",
        f"https://hub.example{path}/rendered",
        f"/dicomweb/studies?StudyInstanceUID={image.study_instance_uid}",
    )  # fmt: skip

    assert urls[5].startswith("https://hub.example/dicomweb/")
    for url in urls:
        answer = service.client.get(url.removeprefix("https://hub.example"))
        assert answer.status_code == 200, url
        assert "X-Frame-Options" not in answer.headers  # an object of another site's page is a frame
    assert service.client.get(f"{path}/thumbnail").status_code == 401
    assert service.client.get("/sign-in?signature=x").headers["X-Frame-Options"] == "SAMEORIGIN"


def test_a_signature_is_for_one_path_one_query_and_reading_alone(service: Service, image: Ingested) -> None:
    path = f"/dicomweb{path_of(image)}"
    (url,) = sign(service, f"{path}/rendered?quality=50")
    query, _, signature = url.partition("&signature=")
    expires, _, rest = signature.partition(".")

    for forged in (
        url.replace("quality=50", "quality=90"),
        url.replace("/rendered", "/thumbnail"),
        f"{query}&signature={int(expires) + 600}.{rest}",
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        f"{url}&viewport=8,8",
        f"{path}/rendered?signature=x",
        f"{path}/rendered?signature=",
        f"{path}/rendered?signature={signature}",
    ):
        assert service.client.get(forged).status_code == 401, forged
    (whole,) = sign(service, path)
    assert service.client.delete(f"{whole}&reason=113001").status_code == 401
    assert service.client.delete(whole).status_code == 401
    assert service.client.get(whole).status_code == 200


@pytest.mark.parametrize(
    "body",
    [None, [], {}, {"urls": []}, {"urls": [1]}, {"urls": "x"}, {"urls": ["/fhir/Patient/1"]},
     {"urls": ["/dicomweb/../fhir/Patient"]}, {"urls": ["/dicomweb/studies?signature=x"]},
     {"urls": ["/dicomweb/studies"], "expires_in": 0}, {"urls": ["/dicomweb/studies"], "expires_in": "5"},
     {"urls": ["/dicomweb/studies"] * 1001}, {"urls": ["/dicomweb/" + "x" * 5000]}],
)  # fmt: skip
def test_what_cannot_be_signed_is_refused(service: Service, body: object) -> None:
    answer = service.client.post(
        "/dicomweb/signed-urls", json=body, headers={"Authorization": f"Bearer {service.token}"}
    )
    assert answer.status_code == 400, answer.data


def test_it_ends_in_time_and_with_its_token_and_never_lives_long(service: Service, image: Ingested) -> None:
    path, clock = f"/dicomweb{path_of(image)}/thumbnail", service.rooms.clock
    assert isinstance(clock, FixedClock)
    (short,) = sign(service, path, expires_in=30)
    (longest,) = sign(service, path, expires_in=10**6)
    clock.advance(timedelta(seconds=31))
    try:
        assert service.client.get(short).status_code == 401
        assert service.client.get(longest).status_code == 200
        clock.advance(timedelta(seconds=300))
        assert service.client.get(longest).status_code == 401
    finally:
        clock.advance(timedelta(seconds=-331))


def test_it_reaches_what_its_token_reaches_and_ends_when_that_is_revoked(
    service: Service, image: Ingested
) -> None:
    path, access = f"/dicomweb{path_of(image)}/thumbnail", service.rooms.access
    token = service.another_token("user/ImagingStudy.rs")
    narrow = service.another_token("patient/ImagingStudy.rs", {"patient": "nobody"})
    (url,) = sign(service, path, token=token)
    (beyond,) = sign(service, path, token=narrow)

    assert service.client.get(url).status_code == 200
    assert service.client.get(beyond).status_code == 404
    with access.database.transaction() as session:
        row = session.scalars(select(Token).where(Token.digest == digest_of(access, token))).one()
        revoke(access, session, row.id)
    assert service.client.get(url).status_code == 401
