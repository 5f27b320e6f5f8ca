"""Veiled names: equal where names are, beginning alike where they do, found by patterns as names in clear
are, and nothing else."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.crypto import KeyRing
from kernel.suites import COMMERCIAL, INTERNATIONAL, Suite
from kernel.veil import MARK, Beginning, Beyond, Containing, Ending, Unanswerable, Wildcard, longest

VEIL = KeyRing({"k1": bytes(32)}, "k1").veil
LENGTH = 200
WORDS = st.text(alphabet="abz张伟小东é-'", min_size=1, max_size=6)
NAMES = st.lists(st.tuples(WORDS, st.sampled_from(["^", " ", "^^"])), min_size=1, max_size=3).map(
    lambda parts: "".join(word + separator for word, separator in parts).rstrip(" ^")
)


def veiled(name: str) -> str:
    return VEIL.veiled(name, LENGTH, inner=True)


def like(kept: str, pattern: str) -> bool:
    """LIKE without an escape, for no sign needs one."""
    meant = {"%": ".*", "_": "."}
    return re.fullmatch("".join(meant.get(each, re.escape(each)) for each in pattern), kept, re.S) is not None


def finds(pattern: str, name: str) -> bool:
    return like(veiled(name), Wildcard(pattern).veiled(VEIL, LENGTH))


def in_clear(pattern: str, name: str) -> bool:
    return like(name, Wildcard(pattern).replace("\\", ""))


@given(NAMES, NAMES)
def test_veiled_names_are_equal_where_names_are(one: str, other: str) -> None:
    assert (veiled(one) == veiled(other)) is (one == other)


@given(NAMES, NAMES)
def test_a_beginning_finds_what_begins_so(name: str, other: str) -> None:
    for end in range(1, len(name) + 1):
        first, beyond = Beginning(name[:end]), Beyond(name[:end])
        for each in (name, other):
            begins = first.veiled(VEIL, LENGTH) <= veiled(each) < beyond.veiled(VEIL, LENGTH)
            assert begins is each.startswith(name[:end])


@given(NAMES)
def test_a_text_is_found_where_a_word_begins_and_not_within_one(name: str) -> None:
    for found in re.finditer(r"[^ ^]+", name):
        for at in range(found.start(), found.end()):
            asked = name[at : found.end()]
            begins_one = any(word.startswith(asked) for word in re.split(r"[ ^]+", name))
            body = veiled(name).split(MARK)[1]
            assert (VEIL.words(asked) in body) is begins_one
            if begins_one:
                assert finds(f"*{asked}*", name)
                assert like(veiled(name), Containing(asked).veiled(VEIL, LENGTH))


@given(st.text(alphabet="abcdz^ ", max_size=40))
def test_a_name_shows_nothing_of_itself_but_where_its_words_end(name: str) -> None:
    shown = veiled(name).replace(MARK, "")

    assert not set(shown) & set("abcdz")
    assert re.sub("[^ ^]", "", shown) == re.sub(r"([ ^])", r"\1\1", re.sub("[^ ^]", "", name))


@pytest.mark.parametrize(
    "pattern",
    [
        "zhang^*", "zhang*", "zha?g", "zhan?", "zhan?^wei", "zhang^we?", "????g^wei", "*^wei", "*^we*", "z*",
        "*wei*", "zhang*wei*", "zhang^wei", "?????^???", "*??", "????????????", "wei*", "zhan? wei",
        "zhang^wei?", "*^we?", "zhang*^wei",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["zhang^wei", "zhang wei", "zhangwei", "wei^zhang", "zhan^wei", "w"])
def test_a_pattern_is_answered_as_in_clear_or_refused(pattern: str, name: str) -> None:
    try:
        found = finds(pattern, name)
    except Unanswerable:
        assert re.search(r"\?+[^?*^ ]", pattern)  # something follows within the word
        return
    if name == "zhangwei" and pattern in ("*wei*", "zhang*wei*"):
        assert not found  # no word begins so
    else:
        assert found is in_clear(pattern, name)


@pytest.mark.parametrize("pattern", ["*wei", "zhang*wei", "z?ang*", "?hang", "*?ei*"])
def test_what_signs_do_not_tell_is_refused(pattern: str) -> None:
    with pytest.raises(Unanswerable):
        Wildcard(pattern).veiled(VEIL, LENGTH)
    with pytest.raises(Unanswerable):
        Ending("wei").veiled(VEIL, LENGTH)


def test_a_given_name_is_found_by_each_of_its_characters() -> None:
    for asked in ("王*", "王小*", "王小东", "*小东*", "*东*", "王小?", "王??"):
        assert finds(asked, "王小东"), asked
    for asked in ("小*", "*王东*", "王东*", "王小", "王?"):
        assert not finds(asked, "王小东"), asked


@given(st.text(alphabet="ab 张伟^", min_size=1, max_size=300))
def test_a_column_has_room_and_what_is_too_long_is_found_by_its_beginning(name: str) -> None:
    for inner in (True, False):
        kept = VEIL.veiled(name, LENGTH, inner)
        assert len(kept) <= LENGTH
        assert kept == VEIL.veiled(name[: longest(LENGTH)], LENGTH, inner)
    first = Beginning(name).veiled(VEIL, LENGTH)
    assert first <= VEIL.veiled(name, LENGTH) < Beyond(name).veiled(VEIL, LENGTH)


def test_an_empty_name_stays_empty_and_every_name_begins_with_nothing() -> None:
    assert veiled("") == ""
    assert Beginning("").veiled(VEIL, LENGTH) <= "" < veiled("a") < Beyond("").veiled(VEIL, LENGTH)


@pytest.mark.parametrize("suite", [INTERNATIONAL, COMMERCIAL], ids=lambda suite: suite.name)
def test_another_key_draws_other_signs(suite: Suite) -> None:
    one, other = (KeyRing({"k1": bytes([at]) * 32}, "k1", suite=suite).veil for at in (1, 2))

    assert one.veiled("张", LENGTH) != other.veiled("张", LENGTH)
    assert one.veiled("张", LENGTH) != VEIL.veiled("张", LENGTH)
    assert one.veiled("张伟", LENGTH)[:3] == one.veiled("张", LENGTH)[:3]


def test_a_turned_key_leaves_names_as_they_are() -> None:
    ring = KeyRing({"k1": bytes(32)}, "k1")
    before = ring.veil.veiled("zhang wei", LENGTH)
    ring.rotate()

    assert ring.veil.veiled("zhang wei", LENGTH) == before
    assert KeyRing(dict(ring._keys), "k2").veil.veiled("zhang wei", LENGTH) == before


@given(st.text(max_size=12))
def test_in_clear_what_is_asked_is_what_sql_took_all_along(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")

    assert [Beginning(text), Beyond(text)] == [text, text + "\U0010ffff"]
    assert Wildcard(text) == escaped.replace("*", "%").replace("?", "_")
    assert [Containing(text), Ending(text)] == [f"%{escaped}%", f"%{escaped}"]
