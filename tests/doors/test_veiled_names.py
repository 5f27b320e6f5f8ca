"""Where a site has its names veiled: they stand nowhere in the database, every door finds them by what can be
asked, refuses what cannot, and the way there and back goes on where it was ended."""

import io
import json
import random
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)
from sqlalchemy import text

import archive.names
import cloudfilm.health
import records.names
from access.caller import Caller
from archive.attributes import document
from archive.exams import list_exams
from archive.folding import pinyin
from archive.ingest import ingest
from archive.workitem_search import search_workitems
from archive.workitems import create_workitem
from cloudfilm.cli import Context, cli
from cloudfilm.commands.names import _rewrites
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from hl7_listener.receiving import receive
from hl7_listener.room import hl7_of
from kernel.database import Database, NamesUnderWay
from kernel.name_veil import begin_names, rewrite_names
from mpi.demographics import Demographics
from mpi.matching import search_records
from tests.archive.test_workitems import scheduled
from tests.builders import ct_slice
from tests.builders_hl7 import adt_a04, omi_o23
from tests.dimse.door import listening
from tests.doors.test_nothing_in_clear import log_position, shown
from tests.fhir_server.test_fhir import JSON, bearer, get, ids
from tests.live import free_ports
from tests.settling import settle


@dataclass(frozen=True)
class People:
    """A patient in three ways of writing, and four of the staff; family and given name of each."""

    latin: tuple[str, str] = ("Quixleworth", "Zbigniewa")
    chinese: tuple[str, str] = ("欧阳", "靐龘")
    kana: tuple[str, str] = ("オウヨウ", "ビンダ")
    referring: tuple[str, str] = ("Pfeffermann", "Otokar")
    performing: tuple[str, str] = ("Vrchlabsky", "Emil")
    reading: tuple[str, str] = ("Nesvadba", "Karel")
    practitioner: str = "施瓦茨科夫"

    @classmethod
    def unheard_of(cls) -> "People":
        """Names that nothing else writes, into a log that others write too."""
        drawn = random.SystemRandom()

        def name(letters: str, length: int) -> tuple[str, str]:
            family, given = ("".join(drawn.choices(letters, k=length)) for _ in range(2))
            return family.capitalize(), given.capitalize()

        latin, *staff = (name("abcdefghijklmnopqrstuvwxyz", 10) for _ in range(4))
        chinese, kana = name("靐龘齉爩鱻麤灪吁鸾鹂霹雳鹦鹉麒麟", 3), name("アイウエオカキクケコサシスセソ", 6)
        return cls(
            latin, chinese, kana, staff[0], staff[1], staff[2], "".join(name("饕餮貔貅魑魅魍魉囹圄耄耋", 4))
        )

    @property
    def dicom(self) -> str:
        """The patient as PS3.5 writes it."""
        return "=".join("^".join(each) for each in (self.latin, self.chinese, self.kana))

    def written(self) -> list[str]:
        """Each name as it may stand somewhere."""
        latin = [*self.latin, *self.referring, *self.performing, *self.reading]
        sounds = [pinyin(self.practitioner), pinyin("".join(self.chinese))]
        sounds += [whole for sound in sounds for whole in sound.split() if len(whole) > 8]
        others = [*self.chinese, *self.kana, self.practitioner, self.practitioner[1:]]
        return [*others, *sounds, *(each for part in latin for each in (part, part.lower()) if len(part) > 5)]


def by_every_door(rooms: Rooms, caller: Caller, people: People = People()) -> None:
    """People by DICOM, FHIR, HL7 and the worklist."""
    image = ct_slice(
        PatientName=people.dicom,
        PatientID="D1",
        ReferringPhysicianName="^".join(people.referring),
        PerformingPhysicianName="^".join(people.performing),
        NameOfPhysiciansReadingStudy="^".join(people.reading),
    )
    ingest(rooms.archive, caller, io.BytesIO(image))
    ingest(rooms.archive, caller, io.BytesIO(ct_slice(study=2, PatientName="Other^Ann", PatientID="D2")))
    client, headers = create_app(rooms).test_client(), bearer(rooms) | JSON
    (family, given), (western, first) = people.chinese, people.latin
    chinese = {"family": family, "given": [given], "text": family + given}
    latin = {"family": western, "given": [first]}
    for type_, id_, name in (
        ("Patient", "p1", [chinese, latin]),
        ("Patient", "p2", {"text": "Other"}),
        ("Person", "s1", [chinese]),
        ("Practitioner", "d1", [{"family": people.practitioner}]),
        ("RelatedPerson", "r1", [latin]),
        ("Organization", "o1", "Quay Hospital"),
    ):
        body: dict[str, Any] = {"resourceType": type_, "id": id_, "name": name}
        if id_ == "p2":
            body["name"] = [name]
        if type_ == "RelatedPerson":
            body["patient"] = {"reference": "Patient/p1"}
        answer = client.put(f"/fhir/{type_}/{id_}", data=json.dumps(body), headers=headers)
        assert answer.status_code == 201, answer.data
    observed = {
        "resourceType": "Observation", "status": "final", "code": {"text": "x"},
        "subject": {"reference": "Patient/p1"}, "performer": [{"reference": "Practitioner/d1"}],
    }  # fmt: skip
    assert client.post("/fhir/Observation", data=json.dumps(observed), headers=headers).status_code == 201
    hl7 = hl7_of(rooms.by_kind())
    pid = f"PID|1||2001^^^HIS^MR||{family}^{given}^^^^^^I~{western}^{first}||19850612|F"
    for message in (adt_a04(pid), omi_o23(pid=pid)):
        assert receive(hl7, caller, message).is_positive
    create_workitem(rooms.archive, caller, scheduled(PatientName=people.dicom, PatientID="D1"))
    settle(rooms)


def bring(rooms: Rooms, is_veiled: bool) -> None:
    """Names into a form, as the command does."""
    assert begin_names(rooms.database, is_veiled)
    for _ in rewrite_names(rooms.database, _rewrites(rooms)):
        pass


@pytest.fixture
def veiled(rooms: Rooms) -> Rooms:
    """Rooms whose names are veiled from the beginning."""
    bring(rooms, is_veiled=True)
    return rooms


@pytest.fixture(params=["written veiled", "veiled afterwards"])
def peopled(request: pytest.FixtureRequest, rooms: Rooms, operator: Caller) -> Rooms:
    """The same with people in them, who came before or after."""
    if request.param == "written veiled":
        bring(rooms, is_veiled=True)
    by_every_door(rooms, operator)
    if request.param == "veiled afterwards":
        bring(rooms, is_veiled=True)
    return rooms


def test_no_name_that_came_in_stands_in_the_database(veiled: Rooms, operator: Caller) -> None:
    since, people = log_position(veiled), People.unheard_of()

    by_every_door(veiled, operator, people)

    assert shown(veiled, since, people.written()) == set()


ASKED_OF_STUDIES = (  # PatientName, and whether it finds the first study
    ("Quixleworth^Zbigniewa", True), ("quixle*", True), ("QUIXLEWORTH^Z*", True), ("*zbig*", True),
    ("*^zbigniewa", True), ("Quixleworth^Zbigniew?", True), ("Quixleworth*", True), ("Quixlewort", False),
    ("欧阳^靐龘", True), ("欧*", True), ("*靐*", True), ("*龘*", True), ("欧阳^靐?", True), ("*阳靐*", False),
    ("=欧阳^靐龘", True), ("Quix*=欧*", True), ("オウヨウ*", True), ("Quixlewortha*", False),
)  # fmt: skip
SOUNDS = ("quixle", "zbig quix", "ouyang", "ou yang bing da", "bing", "oybd", "欧阳靐龘")
REFUSED = ("*worth", "Quix*worth", "Qu?xleworth^*")


@pytest.mark.parametrize("form", ["veiled", "in clear"])
def test_qido_finds_names_alike(rooms: Rooms, operator: Caller, form: str) -> None:
    by_every_door(rooms, operator)
    if form == "veiled":
        bring(rooms, is_veiled=True)
    client, headers = create_app(rooms).test_client(), bearer(rooms)

    def found(level: str = "studies", **query: str) -> int:
        answer = client.get(f"/dicomweb/{level}", query_string=query, headers=headers)
        assert answer.status_code in (200, 204), (query, answer.data)
        return len(json.loads(answer.data)) if answer.status_code == 200 else 0

    for asked, is_found in ASKED_OF_STUDIES:
        assert found(PatientName=asked) == is_found, asked
    for asked in SOUNDS:
        assert found(PatientName=asked, fuzzymatching="true") == 1, asked
    for level, keyword, name in (
        ("studies", "ReferringPhysicianName", "Pfeffermann"),
        ("studies", "NameOfPhysiciansReadingStudy", "Nesvadba"),
        ("series", "PerformingPhysicianName", "Vrchlabsky"),
    ):
        assert found(level, **{keyword: f"{name}*"}) == 1
        assert found(level, **{keyword: f"{name}s*"}) == 0
    assert found(PatientName="*") == found() == 2


def test_qido_and_c_find_refuse_what_veiled_names_do_not_tell(peopled: Rooms) -> None:
    client, headers = create_app(peopled).test_client(), bearer(peopled)
    for asked in REFUSED:
        query = {"PatientName": asked}
        answer = client.get("/dicomweb/studies", query_string=query, headers=headers)
        assert (answer.status_code, b"veiled" in answer.data) == (400, True), asked
    with find(peopled) as query_by:
        for model in (
            StudyRootQueryRetrieveInformationModelFind,
            PatientRootQueryRetrieveInformationModelFind,
        ):
            level = "STUDY" if model == StudyRootQueryRetrieveInformationModelFind else "PATIENT"
            for asked in REFUSED:
                assert query_by(model, level, asked) == (0xA900, []), asked
            for asked, is_found in ASKED_OF_STUDIES:
                assert query_by(model, level, asked) == (0, ["D1"] if is_found else []), asked


class find:
    """C-FIND of a door that listens while the block lasts."""

    def __init__(self, rooms: Rooms) -> None:
        (self._port,) = free_ports(1)
        self._listening = listening(rooms, self._port)

    def __enter__(self) -> Any:
        self._listening.__enter__()
        return self._ask

    def __exit__(self, *raised: Any) -> None:
        self._listening.__exit__(*raised)

    def _ask(self, model: str, level: str, name: str) -> tuple[int, list[str]]:
        entity = AE("ASKER")
        entity.add_requested_context(model)
        association = entity.associate("127.0.0.1", self._port, ae_title="CLOUDFILM")
        asked = Dataset()
        asked.SpecificCharacterSet, asked.QueryRetrieveLevel = "ISO_IR 192", level
        asked.PatientName, asked.PatientID = name, ""
        answers = list(association.send_c_find(asked, model))
        association.release()
        patients = [str(each.PatientID) for _, each in answers if each is not None]
        return answers[-1][0].Status, patients


def test_the_worklist_pages_and_patient_queries_find_names(peopled: Rooms, operator: Caller) -> None:
    for asked in ("Quix*", "*worth^Z*", "欧阳^靐龘"):
        found = list(search_workitems(peopled.archive, operator, document(PatientName=asked)))
        assert len(found) >= 1, asked
    for asked in ("quixle", "欧阳", "ou yang", "D1"):
        assert len(list_exams(peopled.archive, operator, asked)) == 1, asked
    assert list_exams(peopled.archive, operator, "uixle") == ()
    with peopled.database.snapshot() as session:
        for asked in ("Quix*^Zbig*", "欧阳^靐*", "ouyang"):
            described = Demographics("", "", "MAIN", name=asked)
            assert "p1" in search_records(peopled.mpi, session, operator, described, 10), asked


ASKED_OF_FHIR = (  # a search, and which ids it finds among those of the test
    ("Patient?name=quix", "p1"), ("Patient?name=欧阳", "p1"), ("Patient?name=靐", "p1"),
    ("Patient?name=龘", "p1"), ("Patient?name=ouyang", "p1"), ("Patient?name=oybd", "p1"),
    ("Patient?family=Quixleworth", "p1"),
    ("Patient?family:exact=Quixleworth", "p1"), ("Patient?family:exact=quixleworth", ""),
    ("Patient?given:contains=zbig", "p1"), ("Patient?name:contains=阳靐", "p1"), ("Patient?name=uixle", ""),
    ('Patient?_filter=family sw "quix"', "p1"), ('Patient?_filter=family co "quix"', "p1"),
    ('Patient?_filter=family eq "Quixleworth"', "p1"), ('Patient?_filter=not (family sw "quix")', "p2"),
    ("Patient?phonetic=quix", "p1"), ("Patient?name:missing=false", "p1 p2"), ("Person?name=欧", "s1"),
    ("Practitioner?family=施", "d1"), ("RelatedPerson?name=zbig", "r1"),
    ("RelatedPerson?patient.name=欧阳", "r1"),
    ("Patient?_has:RelatedPerson:patient:name=quix", "p1"), ("Organization?name=Quay", "o1"),
    ("Organization?name:contains=hosp", "o1"), ("?_type=Organization,Patient&name=qu", "o1 p1"),
)  # fmt: skip


def test_fhir_finds_names_and_refuses_what_they_do_not_tell(peopled: Rooms) -> None:
    client, headers = create_app(peopled).test_client(), bearer(peopled)
    ours = {"p1", "p2", "s1", "d1", "r1", "o1"}

    for asked, expected in ASKED_OF_FHIR:
        found = set(ids(get(client, f"/fhir/{asked.lstrip('?') if asked[0] != '?' else asked}", headers)))
        assert found & ours == set(expected.split()), asked
    assert len(get(client, "/fhir/Observation?subject:Patient.name=欧阳", headers)["entry"]) == 1
    assert len(get(client, "/fhir/Observation?performer:Practitioner.family=施瓦", headers)["entry"]) == 1
    assert len(get(client, "/fhir/ImagingStudy?patient.name=quix", headers)["entry"]) == 1
    for asked in ("Patient?_sort=name", "Patient?_sort=-family", 'Patient?_filter=family ew "worth"'):
        answer = client.get(f"/fhir/{asked}", headers=headers)
        assert (answer.status_code, b"veiled" in answer.data) == (400, True), asked
        assert json.loads(answer.data)["resourceType"] == "OperationOutcome"
    assert client.get("/fhir/Organization?_sort=name", headers=headers).status_code == 200


def kept(rooms: Rooms) -> dict[str, list[Any]]:
    """All that stands where names are searched."""
    names = "name_alphabetic, name_ideographic, name_phonetic, name_pinyin, referring_physician_name"
    with rooms.database.snapshot() as session:
        return {
            table: sorted(map(tuple, session.execute(text(f"SELECT {columns} FROM {table}"))))
            for table, columns in (
                ("study", f"id, {names}"),
                ("indexed_value", "study_id, path, value"),
                ("index_string", "resource_id, parameter, value, exact"),
            )
        }


class Killed(BaseException):
    """The process ends here."""


def test_a_way_that_is_ended_goes_on_and_the_way_back_gives_the_names_as_they_were(
    rooms: Rooms, operator: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_every_door(rooms, operator)
    monkeypatch.setattr(archive.names, "PAGE", 1)
    monkeypatch.setattr(records.names, "PAGE", 1)
    before = kept(rooms)

    def killed_after(pages: int, is_veiled: bool) -> None:
        begin_names(rooms.database, is_veiled)
        for number, _ in enumerate(rewrite_names(rooms.database, _rewrites(rooms)), 1):
            if number == pages:
                return
        raise AssertionError("it was over before")

    def is_under_way() -> bool:
        with closing(Database(rooms.settings.database.url, keys=rooms.keys)) as other:
            try:
                other.veils_names()
            except NamesUnderWay:
                return True
        return False

    for pages in (1, 2, 3, 2):
        killed_after(pages, is_veiled=True)
        assert is_under_way()
    bring(rooms, is_veiled=True)
    veiled = kept(rooms)
    assert not is_under_way()
    for table, rows in before.items():
        assert len(veiled[table]) == len(rows), table
    assert not set(map(str, veiled["study"])) & set(map(str, before["study"]))

    killed_after(2, is_veiled=False)
    assert is_under_way()
    killed_after(4, is_veiled=True)  # and another way round
    bring(rooms, is_veiled=True)
    assert kept(rooms) == veiled

    bring(rooms, is_veiled=False)
    assert kept(rooms) == before
    assert not is_under_way()


def test_whoever_comes_while_names_are_under_way_is_told_to_wait(
    rooms: Rooms, operator: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_every_door(rooms, operator)
    begin_names(rooms.database, is_veiled=True)
    rooms.database._veils_names = None  # as in a process that starts now
    client, headers = create_app(rooms).test_client(), bearer(rooms)

    for path in (
        "/dicomweb/studies?PatientName=Quix*",
        "/fhir/Patient?name=quix",
        "/fhir/Patient?_sort=name",
    ):
        assert client.get(path, headers=headers).status_code == 503, path
    with pytest.raises(NamesUnderWay):
        ingest(rooms.archive, operator, io.BytesIO(ct_slice(study=9)))
    monkeypatch.setattr(cloudfilm.health, "is_usable", lambda _revision: True)  # tests have no migrations
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert b"cloudfilm names veil" in ready.data


@pytest.fixture
def run(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`cloudfilm names` with the test's own rooms."""
    monkeypatch.setattr(Context, "rooms", rooms)
    monkeypatch.setenv("CLOUDFILM_DATA_DIR", str(rooms.settings.data_dir))

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["names", *arguments])

    return command


def test_the_command_veils_what_is_there_and_leaves_nothing_of_it(
    rooms: Rooms, operator: Caller, run: Any
) -> None:
    by_every_door(rooms, operator)
    in_clear = kept(rooms)

    assert {each for _, each in shown(rooms, log_position(rooms), People().written())} >= {"靐龘", "otokar"}

    assert run("show").output == "Names are in clear.\n"
    assert "All names are veiled." in run("veil").output
    assert run("veil").output == "Names are veiled already.\n"
    assert run("show").output == "Names are veiled.\n"
    still_there = shown(rooms, log_position(rooms), People().written())
    assert {each for each in still_there if not each[0].startswith("log ")} == set()

    assert "All names are in clear." in run("unveil").output
    assert kept(rooms) == in_clear


def test_the_command_refuses_while_anything_else_is_connected(
    rooms: Rooms, operator: Caller, run: Any
) -> None:
    by_every_door(rooms, operator)
    in_clear = kept(rooms)
    with closing(Database(rooms.settings.database.url, keys=rooms.keys)) as other:
        other.is_alive()

        refused = run("veil")

        assert "Stop every role" in str(refused.exception)
        assert not other.veils_names()
    assert kept(rooms) == in_clear
    assert run("veil").exit_code == 0
