"""What is taken for a value, and what only looks like one."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpi.blocking import block_keys
from mpi.compare import are_siblings_names, compare_names
from mpi.demographics import Demographics
from mpi.features import features_of
from mpi.identity_number import check_digit, parse_identity_number


def features(**said: object):  # type: ignore[no-untyped-def]
    return features_of(Demographics("H1", "1", "H1", **said))  # type: ignore[arg-type]


def test_fifteen_digits_become_the_eighteen_of_the_same_person() -> None:
    eighteen = "51052219370507390" + check_digit("51052219370507390")
    assert parse_identity_number(eighteen[:6] + eighteen[8:17]) == parse_identity_number(eighteen)


@pytest.mark.parametrize("last", ["x", "X", "*"])
def test_the_check_digit_x_may_be_written_in_three_ways(last: str) -> None:
    body = next(body for at in range(1000) if check_digit(body := f"51052219370507{at:03d}") == "X")
    number = parse_identity_number(body + last)
    assert number is not None
    assert number.is_valid


@given(st.integers(0, 999), st.integers(0, 16), st.integers(1, 9))
def test_one_wrong_digit_makes_a_number_invalid(sequence: int, at: int, by: int) -> None:
    body = f"51052219370507{sequence:03d}"
    number = body + check_digit(body)
    wrong = parse_identity_number(number[:at] + str((int(number[at]) + by) % 10) + number[at + 1 :])
    assert wrong is not None
    assert not wrong.is_valid


@pytest.mark.parametrize("text", ["", "0", "无", "111111111111111111", "000000000000000000", "不详"])
def test_placeholders_are_no_identity_number(text: str) -> None:
    assert parse_identity_number(text) is None


@pytest.mark.parametrize("phone", ["13800000000", "00000000000", "1", "无", "11111111111"])
def test_placeholders_are_no_phone(phone: str) -> None:
    assert features(phone=phone).phones == ()


def test_a_phone_is_one_however_its_country_code_is_written() -> None:
    assert features(phone="+8613916651624").phones == features(phone="013916651624;13916651624").phones


@pytest.mark.parametrize("name", ["=无名氏", "未知", "Unknown", "急诊无名"])
def test_an_unknown_patient_has_no_name(name: str) -> None:
    assert features(name=name).name is None


@pytest.mark.parametrize("name", ["王丽之子", "王丽之女", "王丽之大双", "王丽之婴"])
def test_a_newborn_has_its_mothers_name_and_none_of_its_own(name: str) -> None:
    found = features(name=f"={name}")
    assert found.name is None
    assert found.mother is not None
    assert found.mother.han == "王丽"


@pytest.mark.parametrize(
    ("name", "mother", "order"),
    [
        ("=王丽之大双", "wangli", "elder"),
        ("=王丽之小双", "wangli", "younger"),
        ("=王丽之子1", "wangli", "elder"),
        ("=王丽之子2", "wangli", "younger"),
        ("=王丽之女B", "wangli", "younger"),
        ("=王丽长子", "wangli", "elder"),
        ("=王丽之次女", "wangli", "younger"),
        ("Smith^Baby Boy", "smith", ""),
        ("Baby Girl A Smith", "smith", "elder"),
        ("SMITH^TWIN B", "smith", "younger"),
        ("WANG LI ZHI ZI", "wangli", ""),
        ("BB^SMITH", "smith", ""),
        ("Baby", "baby", ""),
    ],
)
def test_of_a_newborn_the_mother_and_which_of_twins_it_is_are_read(
    name: str, mother: str, order: str
) -> None:
    found = features(name=name)
    assert found.name is None
    assert found.mother is not None
    assert (found.mother.letters, found.newborn_order) == (mother, order)


@pytest.mark.parametrize("name", ["张小宝", "李子", "王之涣", "刘爱婴子涵"])
def test_an_ordinary_name_is_no_newborns(name: str) -> None:
    assert features(name=f"={name}").mother is None


def test_traditional_and_simplified_writing_are_one_name() -> None:
    assert features(name="=張偉").name == features(name="Zhang^Wei=张^伟").name


def test_a_parents_number_on_a_childs_record_is_not_the_childs() -> None:
    number = "51052219800507390" + check_digit("51052219800507390")
    child = features(birth_date=date(2015, 3, 1), identity_number=number)
    assert child.identity is None
    assert child.guardian_identity == number


def test_the_first_of_january_1900_is_no_birth_date() -> None:
    assert features(birth_date=date(1900, 1, 1)).birth_date is None


@given(st.text(max_size=40), st.text(max_size=30), st.text(max_size=30), st.text(max_size=60))
def test_no_text_breaks_the_features(name: str, number: str, phone: str, address: str) -> None:
    features(name=name, identity_number=number, insurance_number=number, phone=phone, address=address)


@pytest.mark.parametrize(
    ("one", "other", "level"),
    [
        ("Herbert^April", "Harrington^April", "given"),
        ("Herbert^April", "Herbert^June", "family"),
        ("=张建国", "=李建国", "given"),
        ("=张建国", "=张建军", "one-off"),
    ],
)
def test_a_family_name_alone_and_a_given_name_alone_are_told_apart(one: str, other: str, level: str) -> None:
    assert compare_names(features(name=one).name, features(name=other).name) == level


@pytest.mark.parametrize(
    ("one", "other", "siblings"),
    [
        ("Thorpe^Teaha", "Thorpe^Dylan", True),
        ("Webb^Lucy", "Webb^Luc y", False),  # one name, written twice
        ("Daronco", "Daronco^Tiana", False),  # a given name that is missing is no other one
    ],
)
def test_siblings_have_two_given_names(one: str, other: str, siblings: bool) -> None:
    assert are_siblings_names(features(name=one).name, features(name=other).name) is siblings


def test_the_word_street_brings_nobody_together() -> None:
    keys = block_keys(features(name="Li^Na", address="5 wahroonga street"))
    assert "word|wahroonga|na" in keys
    assert "word|street|na" not in keys


@pytest.mark.parametrize(
    ("one", "other", "level"),
    [
        ("=买买提·艾力", "=买买提艾力", "same"),
        ("=买买提·艾力", "=买买提", "near"),
        ("=欧阳娜娜", "Nana Ouyang", "sound"),
        ("=欧阳娜娜", "OUYANG^NA NA", "sound"),
        ("=曾志伟", "ZENG^ZHIWEI", "sound"),
        ("=曾志伟", "CENG ZHI WEI", "sound"),  # as a programme spells it that knows no family names
        ("=吕布", "LYU^BU", "sound"),
        ("=吕布", "LV BU", "sound"),
        ("Zhang^Wei", "WEIZHANG", "reordered"),
        ("=张伟(欠费)", "=张伟", "same"),
        ("=张伟2", "=张伟", "same"),
        ("=张 伟", "=張偉", "same"),
        ("=张玥", "=张yue", "sound"),  # a character that the sender could not write
        ("=张三", "=李四", "different"),
    ],
)
def test_one_name_is_one_however_it_is_written(one: str, other: str, level: str) -> None:
    assert compare_names(features(name=one).name, features(name=other).name) == level
    assert compare_names(features(name=other).name, features(name=one).name) == level


def test_names_that_sound_alike_share_a_key_however_they_are_spelt() -> None:
    for one, other in (("=曾志伟", "ZENG^ZHIWEI"), ("=吕布", "LYU^BU"), ("=欧阳娜娜", "Nana Ouyang")):
        assert set(block_keys(features(name=one))) & set(block_keys(features(name=other)))


def test_full_width_digits_are_digits() -> None:
    wide = str.maketrans("0123456789X", "０１２３４５６７８９Ｘ")
    said = {
        "identity_number": "51052219800507390X",
        "phone": "13916651624",
        "insurance_number": "510562268269",
    }
    narrow, broad = (
        features(**said),
        features(**{name: value.translate(wide) for name, value in said.items()}),
    )
    assert narrow == broad
    assert narrow.phones == ("13916651624",)


def test_a_note_behind_a_newborns_name_is_not_its_mark() -> None:
    assert features(name="=王丽(之子)").mother == features(name="=王丽之子").mother
