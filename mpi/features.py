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

from mpi.characters import is_han, simplified
from mpi.demographics import Demographics
from mpi.identity_number import IdentityNumber, parse_identity_number

NEWBORN = re.compile(
    r"^(?P<mother>.{2,5}?)(?:之|的)?(?P<order>[大小]双|长子|次子|[大小]?(?:子|女|婴|儿|宝))$"
)
NEWBORN_MARKED = re.compile(r"^(?P<mother>.{2,5}?)(?:之|的)(?P<order>.{1,3})$")
NEWBORN_LATIN = re.compile(
    r"^(baby|bb|newborn)\b|\b(baby (?:boy|girl|of)|baby [ab]|newborn)\b", re.IGNORECASE
)
UNKNOWN = re.compile(
    r"无名|未知|不详|不明|佚名|待查|匿名|测试|三无|^(unknown|anonymous|anon|test|john doe|jane doe|nn|n n)\b",
    re.IGNORECASE,
)
MARKS = re.compile(r"[\s\^·•・.,，、'’`´\-_/()（）\[\]]+")
WILDCARDS = "?*？＊□■�"
PLACEHOLDER_DATES = frozenset({date(1900, 1, 1), date(1800, 1, 1), date(1970, 1, 1), date(1899, 12, 30)})
PLACEHOLDER_PHONES = frozenset({"13800000000", "13800138000", "12345678901", "12345678", "13000000000"})
GUARDIAN_YEARS = 12  # an identity number this much older than its record is a parent's
PROVINCE = re.compile(r"^(?:[^省区市县]{2,8}?(?:省|自治区|特别行政区)|(?:北京|上海|天津|重庆)市)")
ADDRESS_WORDS = str.maketrans({"幢": "栋", "社": "组", "座": "栋"})


@dataclass(frozen=True, slots=True)
class Name:
    """A name, ready to be compared."""

    han: str = ""  # simplified characters, wildcards as ?
    syllables: tuple[str, ...] = ()  # the reading of each character of `han`
    letters: str = ""  # the reading, or the Latin name, as one word of a-z
    words: tuple[str, ...] = ()  # of a Latin name, family name first as far as it is known


@dataclass(frozen=True, slots=True)
class Features:
    """One record, ready to be compared. Empty, or None: not known."""

    name: Name | None
    mother: Name | None  # of a newborn that has no name of its own yet
    newborn_order: str  # 大 or 小 of twins, else what the mark said
    birth_date: date | None
    is_birth_date_rough: bool  # 1 January: often only the year is known
    sex: str
    identity: IdentityNumber | None
    guardian_identity: str  # a parent's number on a child's record
    insurance: str
    phones: tuple[str, ...]
    address: str
    postcode: str  # of a western address; a Chinese one says the same in words


def features_of(said: Demographics) -> Features:
    """What can be compared of what a source says."""
    text, latin = _name_groups(said.name)
    newborn = _newborn(text or latin)
    is_unknown = bool(UNKNOWN.search(text or latin))
    birth_date = said.birth_date if said.birth_date not in PLACEHOLDER_DATES else None
    identity = parse_identity_number(said.identity_number)
    guardian = ""
    if (
        identity is not None
        and identity.birth_date is not None
        and birth_date is not None
        and birth_date.year - identity.birth_date.year >= GUARDIAN_YEARS
    ):
        guardian, identity = identity.number, None
    if birth_date is None and identity is not None and newborn is None:
        birth_date = identity.birth_date
    address = _address(said.address)
    return Features(
        name=None if newborn or is_unknown else _name(text, latin),
        mother=_name(newborn[0], "") if newborn else None,
        newborn_order=newborn[1] if newborn else "",
        birth_date=birth_date,
        is_birth_date_rough=birth_date is not None and (birth_date.month, birth_date.day) == (1, 1),
        sex=said.sex if said.sex in ("M", "F") else "",
        identity=identity,
        guardian_identity=guardian,
        insurance=_number(said.insurance_number),
        phones=tuple(
            dict.fromkeys(phone for part in re.split(r"[;,/、]", said.phone) if (phone := _phone(part)))
        ),
        address=address,
        postcode=postcode_of(address),
    )


def _name_groups(name: str) -> tuple[str, str]:
    """The Chinese writing of a person name, and its Latin one; `^` stays in the Latin one."""
    groups = [unicodedata.normalize("NFKC", group) for group in name.split("=")]
    han = next((group for group in groups if any(is_han(character) for character in group)), "")
    latin = next((group for group in groups if group.strip(" ^") and not any(map(is_han, group))), "")
    return simplified(MARKS.sub("", han)), latin


def _newborn(text: str) -> tuple[str, str] | None:
    """The mother's name and the order mark of a newborn's name; None for a name."""
    marked = NEWBORN_MARKED.match(text)
    if marked and marked["order"][-1] in "子女婴儿宝双":
        return marked["mother"], marked["order"]
    plain = NEWBORN.match(text)
    if plain and len(plain["mother"]) >= 2 and (len(plain["order"]) == 2 or text.endswith("婴")):
        return plain["mother"], plain["order"]
    if NEWBORN_LATIN.search(text.replace("^", " ").strip()):
        return "", ""
    return None


def _name(han: str, latin: str) -> Name | None:
    if han:
        text = "".join("?" if character in WILDCARDS else character for character in han)
        syllables = tuple(reading(character) for character in text)
        return Name(text, syllables, "".join(syllables))
    words = tuple(
        word
        for part in re.split(r"[\s^,.]+", latin.replace("'", "").replace("-", " "))
        if (word := fold_latin(part))
    )
    return Name(letters="".join(words), words=words) if words else None


@lru_cache(maxsize=65536)
def reading(character: str) -> str:
    """The pinyin of one character without tone, `ü` as `u`; a character that is none as itself."""
    return fold_latin(lazy_pinyin(character)[0].replace("v", "u"))


def fold_latin(text: str) -> str:
    """The letters a-z and digits of a word, without accents and case."""
    bare = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in bare if character.isascii() and character.isalnum())


def _number(text: str) -> str:
    number = "".join(character for character in text.upper() if character.isascii() and character.isalnum())
    return number if len(number) >= 5 and len(set(number)) > 1 else ""


def _phone(text: str) -> str:
    digits = "".join(character for character in text if character.isascii() and character.isdigit())
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
    plain = simplified(unicodedata.normalize("NFKC", text)).casefold()
    if any(map(is_han, plain)):
        plain = re.sub(r"\s+", "", plain).translate(ADDRESS_WORDS)
        return PROVINCE.sub("", plain)
    return " ".join(re.findall(r"[a-z0-9]+", plain))
