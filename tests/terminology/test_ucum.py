"""UCUM: what is a unit, and what it means in base units."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminology.ucum import InvalidUnit, canonical, is_unit, parse_unit

UNITS = (
    "m kg mg/dL mmol/L 10*3/uL 10^9/L mm[Hg] m[H2O] % [in_i'H2O] /min {score} mL/min/{1.73_m2} kg.m/s2 "
    "mL/(kg.min) Cel [degF] mGy.cm [iU]/L g/(24.h) 1/d ug{creat} cm2 [hnsf'U] dB mo_j a bar m-1"
)
WRONG = (
    "",
    "mgdl",
    "mm[Hg",
    "m//",
    "m/",
    "((m)",
    "m)",
    "m2.5x",
    "k",
    "KG.",
    "MG/DL ",
    "升",
    "{a",
    "0m",
    "m00",
)


@pytest.mark.parametrize("unit", UNITS.split())
def test_a_unit_of_ucum_is_accepted(unit: str) -> None:
    assert is_unit(unit)


@pytest.mark.parametrize("text", WRONG)
def test_another_text_is_refused(text: str) -> None:
    assert not is_unit(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("1", "mg/dL"), ("0.01", "g/L")),
        (("1", "h"), ("3600", "s")),
        (("37", "Cel"), ("310.15", "K")),
        (("212", "[degF]"), ("373.15", "K")),
        (("1", "mm[Hg]"), ("133.322", "Pa")),
        (("1", "10*3/uL"), ("1", "10*9/L")),
        (("1", "[in_i]"), ("2.54", "cm")),
        (("5", "mGy"), ("0.005", "J/kg")),
    ],
)
def test_the_same_amount_has_one_canonical_form(one: tuple[str, str], other: tuple[str, str]) -> None:
    first, second = (canonical(Decimal(value), unit) for value, unit in (one, other))
    assert first[1] == second[1]
    assert abs(first[0] - second[0]) <= abs(first[0]) * Decimal("1e-12")


def test_international_units_are_comparable_with_themselves_alone() -> None:
    assert parse_unit("[iU]").dimension != parse_unit("1").dimension
    assert parse_unit("k[iU]/L").dimension == parse_unit("[iU]/mL").dimension


@given(st.text(alphabet="mgkLsd10*^[]{}()./-+'%", max_size=40))
def test_whatever_is_written_is_a_unit_or_is_refused(text: str) -> None:
    try:
        parse_unit(text)
    except InvalidUnit:
        return


def test_depth_and_length_have_limits() -> None:
    assert not is_unit("(" * 5000 + "m" + ")" * 5000)
    assert not is_unit("m." * 5000 + "m")
