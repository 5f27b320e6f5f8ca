"""Texts as they are compared: without regard to case, width or spacing (PS3.4 C.2.2.2.1.1 leaves this to
us)."""

import unicodedata
from functools import lru_cache

from pypinyin import lazy_pinyin


def fold(text: str) -> str:
    """NFKC (full-width letters become plain ones), case folded, spaces collapsed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def fold_name(group: str) -> str:
    """A component group of a person name, folded; trailing empty components are dropped (PS3.5 6.2.1.1)."""
    return fold(group).replace(" ^", "^").replace("^ ", "^").rstrip("^ ")


@lru_cache(maxsize=16384)
def pinyin(ideographic: str) -> str:
    """How a Chinese name sounds, as it is typed: `zhang wei zhangwei zw`; empty without Chinese
    characters. Remembered, for many are called alike."""
    syllables = [word for word in lazy_pinyin(ideographic.replace("^", ""), errors="ignore") if word]
    if not syllables:
        return ""
    return " ".join((*syllables, "".join(syllables), "".join(word[0] for word in syllables)))


def name_columns(patient_name: str, referring_physician_name: str) -> dict[str, str]:
    """The columns of a study by which people are searched for, of names in their PS3.5 form."""
    groups = [fold_name(group) for group in [*patient_name.split("="), "", ""][:3]]
    return {
        "name_alphabetic": groups[0],
        "name_ideographic": groups[1],
        "name_phonetic": groups[2],
        "name_pinyin": pinyin(groups[1] or groups[0]),
        "referring_physician_name": fold_name(referring_physician_name),
    }
