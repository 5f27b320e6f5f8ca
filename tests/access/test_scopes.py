"""The grammar of SMART scopes (SMART App Launch 2.2, 3.0.2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access.caller import Action
from access.scopes import InvalidScope, Scope, launch_scope, parse_scope, parse_scopes, permissions_of

VERBS = st.sets(st.sampled_from(list("cruds")), min_size=1).map(
    lambda chosen: "".join(verb for verb in "cruds" if verb in chosen)
)
SCOPES = st.builds(
    Scope,
    st.sampled_from(["patient", "user", "system"]),
    st.sampled_from(["*", "ImagingStudy", "Patient", "Observation"]),
    VERBS,
    st.sampled_from(["", "modality=CT", "category=http://x|y&status=final"]),
)


@given(SCOPES)
def test_a_scope_that_is_printed_is_read_again(scope: Scope) -> None:
    assert parse_scope(str(scope)) == scope


@pytest.mark.parametrize(
    "text",
    [
        "patient/ImagingStudy.dus",
        "patient/ImagingStudy.rr",
        "patient/ImagingStudy.",
        "patient/imagingStudy.r",
        "patient/.rs",
        "other/Patient.r",
        "patient/Patient.rs?",
        "patient/Patient",
        "patient/*.x",
        "",
    ],
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidScope):
        parse_scope(text)


@pytest.mark.parametrize(
    ("word", "read"),
    [
        ("launch/patient", ("launch/patient", "")),
        ("launch/imagingstudy?role=launch", ("launch/imagingstudy", "launch")),
        (
            "launch/imagingstudy?role=https://example.org/prior",
            ("launch/imagingstudy", "https://example.org/prior"),
        ),
        ("launch/questionnaire?role=urn:x:y", ("launch/questionnaire", "urn:x:y")),
    ],
)
def test_c3_a_launch_scope_has_one_role(word: str, read: tuple[str, str]) -> None:
    assert parse_scopes(word)[1] == {word}
    assert launch_scope(word) == read


@pytest.mark.parametrize(
    "word",
    [
        "launch/patient?role=",
        "launch/patient?role=prior",
        "launch/patient?role=urn:a&role=urn:b",
        "launch/patient?rule=urn:a",
        "launch/Patient",
        "launch/",
    ],
)
def test_c3_a_launch_scope_of_another_form_is_refused(word: str) -> None:
    with pytest.raises(InvalidScope):
        parse_scopes(word)


@pytest.mark.parametrize(("suffix", "verbs"), [("read", "rs"), ("write", "cud"), ("*", "cruds")])
def test_version_1_means_version_2_and_is_printed_as_asked(suffix: str, verbs: str) -> None:
    scope = parse_scope(f"user/Patient.{suffix}")

    assert scope.verbs == verbs
    assert str(scope) == f"user/Patient.{suffix}"


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        resources, others = parse_scopes(text)
    except InvalidScope:
        return
    assert len(resources) + len(others) <= len(text.split())


def test_scopes_delegate_together() -> None:
    resources, others = parse_scopes("openid launch/patient patient/ImagingStudy.rs user/Patient.r")

    assert others == {"openid", "launch/patient"}
    assert permissions_of(resources).allow(Action("ImagingStudy", "s"))
    assert not permissions_of(resources).allow(Action("Patient", "s"))
