"""The DICOM conformance statement says what is negotiated, no more and no less."""

from dataclasses import replace

from pynetdicom import AllStoragePresentationContexts

from cloudfilm.dicom_conformance import dicom_facts, statement_of
from cloudfilm.rooms import Rooms
from cloudfilm.web import create_app
from conformance.dicom_statement import as_html
from dimse.associate import AssociateRequest, ContextResult, ProposedContext, UserInformation
from dimse.negotiation import negotiate
from dimse.server import asked_services, services
from kernel.settings import DimseSettings, Settings

PRIVATE = "1.3.46.670589.2.3.1.1"
VERIFICATION, INSTANCE_AVAILABILITY = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.33"
COMMITMENT, PATIENT_ROOT_FIND = "1.2.840.10008.1.20.1", "1.2.840.10008.5.1.4.1.2.1.1"
SETTINGS = replace(Settings(), dimse=DimseSettings(private_sop_classes=(PRIVATE,), tls_port=2762))


def accepted(sop_class: str, transfer_syntaxes: tuple[str, ...]) -> str:
    """The transfer syntax that a proposal is answered with; empty when it is refused."""
    offered = {uid: service for service in services(SETTINGS.dimse) for uid in service.sop_classes}
    request = AssociateRequest(
        "CLOUDFILM", "TESTER", (ProposedContext(1, sop_class, transfer_syntaxes),), UserInformation()
    )
    (answer,) = negotiate(request, offered, 16384).accept.contexts
    return answer.transfer_syntax if answer.result == ContextResult.ACCEPTED else ""


def test_every_context_of_the_statement_is_accepted() -> None:
    for service in dicom_facts(SETTINGS).services:
        if not service.is_initiated:
            for sop_class in service.sop_classes:
                for syntax in service.transfer_syntaxes:
                    assert accepted(sop_class.uid, (syntax.uid,)) == syntax.uid, (sop_class, syntax)


def test_what_the_statement_does_not_name_is_refused() -> None:
    stated = {
        sop_class.uid
        for service in dicom_facts(SETTINGS).services
        if not service.is_initiated
        for sop_class in service.sop_classes
    }
    assert PRIVATE in stated
    for uid in ("1.2.840.10008.5.1.1.40.1", "1.2.840.10008.1.42", "1.3.46.670589.9"):
        assert (accepted(uid, ("1.2.840.10008.1.2",)) != "") is (uid in stated)
    assert {str(context.abstract_syntax) for context in AllStoragePresentationContexts} <= stated


def test_extended_negotiation_is_stated_as_it_is_offered() -> None:
    stated = {
        service.sop_classes[0].uid: service.extended
        for service in dicom_facts(SETTINGS).services
        if service.extended
    }
    for uid, offered in stated.items():
        everything = UserInformation(extended={uid: b"\x01" * 8})
        request = AssociateRequest("A", "B", (ProposedContext(1, uid, ("1.2.840.10008.1.2",)),), everything)
        by_class = {each: service for service in services(SETTINGS.dimse) for each in service.sop_classes}
        assert negotiate(request, by_class, 16384).accept.user.extended[uid].hex(" ") == offered


def test_what_is_asked_of_others_stands_in_the_statement_in_its_role() -> None:
    """By the very tables that the proposals are made of."""
    (classes,) = (section for section in statement_of(SETTINGS) if section.number == "3.2.1")
    roles = {row[1]: row[2:] for table in classes.tables for row in table.rows}

    for service in asked_services(SETTINGS.dimse):
        for sop_class, _ in service.proposals():
            assert roles[sop_class][["SCU", "SCP"].index("SCP" if service.as_scp else "SCU")] == "Yes"
    assert roles[VERIFICATION] == ("Yes", "Yes")
    assert roles[INSTANCE_AVAILABILITY] == ("Yes", "No")
    assert roles[COMMITMENT] == ("No", "Yes")
    assert roles[PATIENT_ROOT_FIND] == ("No", "Yes")
    assert roles[PRIVATE] == ("Yes", "Yes")


def test_the_page_has_the_form_of_ps3_2_and_names_every_sop_class(rooms: Rooms) -> None:
    page = create_app(rooms).test_client().get("/conformance/dicom")
    text = page.get_data(as_text=True)

    assert page.status_code == 200
    for heading in ("概述", "Implementation Model", "关联接受", "Support of Character Sets", "安全"):
        assert heading in text
    for service in services(rooms.settings.dimse):
        assert all(uid in text for uid in service.sop_classes)


def test_names_from_settings_cannot_break_the_page() -> None:
    odd = replace(SETTINGS, dimse=replace(SETTINGS.dimse, ae_title="<script>"))

    assert "<script>" not in as_html("title", statement_of(odd))
