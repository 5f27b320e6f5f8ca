"""Features: what one source says, in a form in which two sources can be compared.

Names lose what differs by habit (traditional characters, width, case, spaces, order marks), numbers their
prefixes, and what only looks like a value (无名氏, 13800000000, 1900-01-01) is taken out. A newborn's name
(王丽之子) is its mother's, so it is kept apart from names; a parent's identity number on a child's record
shows by the birth date in it, and is not taken for the child's own.
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from pypinyin import lazy_pinyin

from mpi.characters import has_han, simplified
from mpi.demographics import Demographics, Identifier
from mpi.identity_number import IdentityNumber, parse_identity_number

NEWBORN = re.compile(
    r"^(?P<mother>.{2,5}?)(?P<mark>之|的)?(?P<order>[大小长次]?(?:[一二]?[子女婴儿宝]|双))(?P<number>[1-9A-Da-d甲乙]?)$"
)
NEWBORN_LATIN = re.compile(
    r"^(?:baby|bb|newborn|infant)\b"
    r"|\b(?:baby (?:boy|girl|of|[ab]|\d)|newborn|twin [ab\d]|zhi ?(?:zi|nv|nu)$)\b",
    re.IGNORECASE,
)
NEWBORN_WORDS = frozenset({
    "baby", "bb", "newborn", "infant", "boy", "girl", "male", "female", "of", "mother", "twin",
    "zhi", "zi", "nv", "nu", "zhizi", "zhinv", "zhinu",
})  # fmt: skip
ELDER, YOUNGER = "elder", "younger"
ORDERS = dict.fromkeys("大长1Aa甲一", ELDER) | dict.fromkeys("小次2Bb乙二", YOUNGER)
UNKNOWN = re.compile(
    r"无名|未知|不详|不明|佚名|待查|匿名|测试|三无|^(unknown|anonymous|anon|test|john doe|jane doe|nn|n n)\b",
    re.IGNORECASE,
)
NOTE = re.compile(r"\([^()子女婴儿双宝]*\)|\[[^\[\]]*\]")  # that a desk writes behind a name: 张伟(欠费)
MARKS = re.compile(r"[\s\^·•・.,，、'’`´\-_/()（）\[\]]+")
PHONES = re.compile(r"[;,/、]")
NO_DIGITS, NO_NUMBER = re.compile("[^0-9]+"), re.compile("[^0-9A-Z]+")
WILDCARDS = "?*？＊□■�"
PLACEHOLDER_DATES = frozenset({date(1900, 1, 1), date(1800, 1, 1), date(1970, 1, 1), date(1899, 12, 30)})
PLACEHOLDER_PHONES = frozenset({"13800000000", "13800138000", "12345678901", "12345678", "13000000000"})
GUARDIAN_YEARS = 12  # an identity number this much older than its record is a parent's
PROVINCE = re.compile(r"^(?:[^省区市县]{2,8}?(?:省|自治区|特别行政区)|(?:北京|上海|天津|重庆)市)")
ADDRESS_WORDS = str.maketrans("幢座社", "栋栋组")
FAMILY_READINGS = {  # of characters that are read otherwise as a family name
    "曾": "zeng", "单": "shan", "解": "xie", "仇": "qiu", "查": "zha", "区": "ou", "朴": "piao", "盖": "ge",
    "缪": "miao", "乐": "yue", "召": "shao", "折": "she", "员": "yun", "种": "chong", "覃": "qin",
    "翟": "zhai", "繁": "po", "牟": "mu", "薄": "bo", "隗": "wei", "洗": "xian", "句": "gou", "黑": "he",
    "祭": "zhai", "卜": "bu", "阚": "kan", "能": "nai", "秘": "bi", "都": "du",
}  # fmt: skip


PINYIN = re.compile(
    r"(?:(?:[zcs]h?|[bpmfdtnlgkhjqxrwy])?"
    r"(?:[aeo]ng|[aeiou]n|[aeou]i|i?ao|ou|er|iang?|iong|ian|ing|i[eau]|uang?|uai|u[aeio]|[aeiou]))+"
)  # what may be syllables; a Western name seldom is


@dataclass(frozen=True, slots=True)
class Name:
    """A name, ready to be compared."""

    han: str = ""  # simplified characters, wildcards as ?
    syllables: tuple[str, ...] = ()  # the reading of each character of `han`
    family_reading: str = ""  # of the first character, where as a family name it has one of its own
    letters: str = ""  # the reading, or the Latin name, as one word of a-z
    words: tuple[str, ...] = ()  # of a Latin name, family name first as far as it is known

    @property
    def spellings(self) -> tuple[tuple[str, ...], ...]:
        """The syllables as they may be spelt: 曾伟 is Zeng Wei, and Ceng Wei where a programme spelt it."""
        own = (self.syllables,) if self.syllables else ()
        return (*own, (self.family_reading, *self.syllables[1:])) if self.family_reading else own


@dataclass(frozen=True, slots=True)
class Features:
    """One record, ready to be compared. Empty, or None: not known."""

    name: Name | None
    mother: Name | None  # of a newborn that has no name of its own yet
    newborn_order: str  # elder or younger of twins, where the name says it
    birth_date: date | None
    is_birth_date_said: bool  # and not only read from the identity number
    is_birth_date_rough: bool  # 1 January: often only the year is known
    sex: str
    identity: IdentityNumber | None
    guardian_identity: str  # a parent's number on a child's record
    insurance: str
    numbers: frozenset[str]  # its number and the others that its source knows, each with who gave it
    phones: tuple[str, ...]
    address: str
    postcode: str  # of a western address; a Chinese one says the same in words
    origin: str  # chinese or western, by what shows it; empty: nothing does


def features_of(said: Demographics) -> Features:
    """What can be compared of what a source says."""
    name, newborn, is_han = _read_name(said.name)
    birth_date = said.birth_date if said.birth_date not in PLACEHOLDER_DATES else None
    identity = parse_identity_number(unicodedata.normalize("NFKC", said.identity_number))
    guardian = ""
    if (
        identity is not None
        and identity.birth_date is not None
        and birth_date is not None
        and birth_date.year - identity.birth_date.year >= GUARDIAN_YEARS
    ):
        guardian, identity = identity.number, None
    is_said = birth_date is not None
    if birth_date is None and identity is not None and newborn is None:
        birth_date = identity.birth_date
    address = _address(said.address)
    return Features(
        name=name,
        mother=newborn[0] if newborn else None,
        newborn_order=newborn[1] if newborn else "",
        birth_date=birth_date,
        is_birth_date_said=is_said,
        is_birth_date_rough=birth_date is not None and (birth_date.month, birth_date.day) == (1, 1),
        sex=said.sex if said.sex in ("M", "F") else "",
        identity=identity,
        guardian_identity=guardian,
        insurance=_number(said.insurance_number),
        numbers=_numbers(said),
        phones=_phones(said.phone),
        address=address,
        postcode=postcode_of(address),
        origin=_origin(name, address, identity, is_chinese=is_han or bool(guardian)),
    )


def _numbers(said: Demographics) -> frozenset[str]:
    """Numbers of patients; one that was made here for a record without any is none (it has a ~)."""
    own = Identifier(said.issuer, "" if "~" in said.identifier else said.identifier)
    return frozenset(
        f"{each.system}|{each.value}" for each in (own, *said.other_identifiers) if each.system and each.value
    )


def _origin(name: Name | None, address: str, identity: IdentityNumber | None, *, is_chinese: bool) -> str:
    if is_chinese or (identity is not None and identity.is_resident) or not address.isascii():
        return "chinese"
    return "western" if address or (name is not None and not PINYIN.fullmatch(name.letters)) else ""


@lru_cache(maxsize=16384)
def _read_name(name: str) -> tuple[Name | None, tuple[Name | None, str] | None, bool]:
    """A person name; of a newborn its mother's and which of twins it is; and whether it is in characters.

    Remembered, for those who are compared are often called alike.
    """
    text, latin = _name_groups(name)
    newborn = _newborn(text, latin)
    is_unknown = bool(UNKNOWN.search(text or latin))
    return None if newborn or is_unknown else _name(text, latin), newborn, bool(text)


def _name_groups(name: str) -> tuple[str, str]:
    """The Chinese writing of a person name, and its Latin one; `^` stays in the Latin one."""
    groups = [unicodedata.normalize("NFKC", group) for group in name.split("=")]
    han = next((group for group in groups if has_han(group)), "")
    latin = next((group for group in groups if group.strip(" ^") and not has_han(group)), "")
    return simplified(MARKS.sub("", NOTE.sub("", han) or han)), latin


def _newborn(text: str, latin: str) -> tuple[Name | None, str] | None:
    """The mother's name and which of twins it is, of a newborn's name; None for a name."""
    found = NEWBORN.match(text)
    if found and (found["mark"] or len(found["order"]) > 1 or found["order"] == "婴"):
        mark = found["number"] or next((each for each in found["order"] if each in ORDERS), "")
        return _name(found["mother"], ""), ORDERS.get(mark, "")
    words = latin.replace("^", " ").split()
    if not text and NEWBORN_LATIN.search(" ".join(words)):
        rest = [word for word in words if word.lower() not in NEWBORN_WORDS]
        mother = [word for word in rest if word.upper() not in ORDERS]
        order = next((ORDERS[word.upper()] for word in rest if word.upper() in ORDERS), "")
        return _name("", "^".join(mother or words)), order
    return None


def _name(han: str, latin: str) -> Name | None:
    if han:
        bare = re.sub("[0-9]+", "", han) or han  # 张伟2: the second of that name at the desk
        text = "".join("?" if character in WILDCARDS else character for character in bare)
        syllables = tuple(reading(character) for character in text)
        return Name(text, syllables, FAMILY_READINGS.get(text[0], ""), "".join(syllables))
    words = tuple(
        word
        for part in re.split(r"[\s^,.]+", latin.replace("'", "").replace("-", " "))
        if (word := fold_latin(part))
    )
    return Name(letters=_as_pinyin("".join(words)), words=words) if words else None


def _as_pinyin(letters: str) -> str:
    """One spelling of ü: 吕 is Lü, Lv, Lu, and Lyu in a passport."""
    return letters.replace("lyu", "lu").replace("nyu", "nu").replace("v", "u")


@lru_cache(maxsize=65536)
def reading(character: str) -> str:
    """The pinyin of one character without tone, `ü` as `u`; a character that is none as itself."""
    return fold_latin(lazy_pinyin(character)[0].replace("v", "u"))


def fold_latin(text: str) -> str:
    """The letters a-z and digits of a word, without accents and case."""
    bare = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in bare if character.isascii() and character.isalnum())


def _number(text: str) -> str:
    if not text:
        return ""
    number = NO_NUMBER.sub("", unicodedata.normalize("NFKC", text).upper())
    return number if len(number) >= 5 and len(set(number)) > 1 else ""


def _phones(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    split = PHONES.split(unicodedata.normalize("NFKC", text))
    return tuple(dict.fromkeys(phone for part in split if (phone := _phone(part))))


def _phone(text: str) -> str:
    digits = text if text.isascii() and text.isdigit() else NO_DIGITS.sub("", text)
    digits = digits.removeprefix("0086")
    if len(digits) == 13 and digits.startswith("86"):
        digits = digits[2:]
    if len(digits) == 12 and digits.startswith("01"):
        digits = digits[1:]
    if len(digits) < 7 or len(set(digits)) <= 2 or digits in PLACEHOLDER_PHONES:
        return ""
    return digits


def postcode_of(address: str) -> str:
    """The postcode of a western address that was made ready: its last word of four digits or more."""
    if not address.isascii():
        return ""
    return next((word for word in reversed(address.split()) if word.isdigit() and len(word) >= 4), "")


def _address(text: str) -> str:
    if not text:
        return ""
    plain = simplified(unicodedata.normalize("NFKC", text)).casefold()
    if has_han(plain):
        plain = re.sub(r"\s+", "", plain).translate(ADDRESS_WORDS)
        return PROVINCE.sub("", plain)
    return " ".join(re.findall(r"[a-z0-9]+", plain))
