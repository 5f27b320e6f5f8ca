"""Veiled names: a form in which the search finds them, whole and by beginnings, and nobody else reads them.

A text is taken apart at spaces, `^` and `=`, which stay. Within a word each character becomes two signs that
a keyed hash draws from the word up to and including it: who begins alike looks alike up to there, and what
follows cannot be read off. So equality is equality, and a beginning is a beginning:

    "zhang wei"          MARK 1a2b3c4d5e  6f7g8h MARK     each digit and letter here is a sign
    begins with "zhan"   MARK 1a2b3c4d...
    holds "we"           %6f7g%                           within a word these would be other signs

Without the key it shows how many words and characters a name has, and which names are equal or begin alike.
The second mark says where a text ends. After it a Chinese name may have its words once more from each further
character on, so that a given name is found by itself.

What is asked for is made of `Asked`, which is the text for SQL where names stand in clear.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Self

from sqlalchemy.exc import DontWrapMixin

from kernel.errors import CloudfilmError, Kind

MARK = "\x7f"  # how a veiled text begins and where it ends: no text that is searched for has it
SIGNS = 0x3400  # the first of 2^15 characters that mean nothing to LIKE, all of three bytes in UTF-8
SIGN_BITS = 15
SEPARATORS = " ^="
PIECES = re.compile(r"([ ^=])")
IDEOGRAPHS = re.compile("[\u3400-\u9fff\U00020000-\U0003ffff]{2,}")
REMEMBERED = 16384  # words: names have few
AFTER_ALL = "\U0010ffff"  # after every text with the same beginning


class Unanswerable(CloudfilmError, DontWrapMixin):
    """Something is asked of veiled names that they do not tell. It is said while SQL is sent."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__(
            "Names are veiled in this database. They are found whole, by their beginning (x*), and by the "
            "beginning of one of their words (*x*, :contains), and not by how they end or by characters "
            "within a word."
        )


class Veil:
    """Veils with one key. mac: a keyed hash that nobody else computes."""

    def __init__(self, mac: Callable[[bytes], bytes]) -> None:
        self._mac = mac
        self._word = lru_cache(maxsize=REMEMBERED)(self._word_now)

    def veiled(self, text: str, length: int, inner: bool = False) -> str:
        """A text as a row holds it, in at most `length` characters: a longer one is cut before it is veiled.

        inner: ideographs are found from each character of a word on, if that has room.
        """
        if not text:
            return text
        text = text[: longest(length)]
        kept = MARK + self.words(text) + MARK
        if inner:
            for word in IDEOGRAPHS.findall(text):
                for at in range(1, len(word)):
                    more = self._word(word[at:]) + MARK
                    kept += more if len(kept) + len(more) <= length else ""
        return kept

    def words(self, text: str) -> str:
        """What a text, or the beginning of one, looks like within a row."""
        return "".join(
            piece * 2 if piece in SEPARATORS else self._word(piece) for piece in PIECES.split(text) if piece
        )

    def pattern(self, text: str) -> str:
        """A pattern of LIKE for one with `*` and `?` (PS3.4 C.2.2.2.4). Raises Unanswerable.

        What follows a `*` is looked for where words begin.
        """
        first, *others = text.split("*")
        if others and others[-1] and others[-1][0] not in SEPARATORS + "?":
            raise Unanswerable
        parts = [MARK + self._with_any(first) if first or not others else "", *map(self._with_any, others)]
        return "%".join(parts) + ("" if others and not others[-1] else f"{MARK}%")

    def _with_any(self, part: str) -> str:
        """A part of a pattern in which `?` may end words."""
        pieces = []
        for piece in filter(None, PIECES.split(part)):
            word = piece.rstrip("?")
            if "?" in word:
                raise Unanswerable
            pieces.append(self.words(word) + "__" * (len(piece) - len(word)))
        return "".join(pieces)

    def _word_now(self, word: str) -> str:
        signs = []
        for end in range(1, len(word) + 1):
            drawn = int.from_bytes(self._mac(f"veiled name {word[:end]}".encode())[:4])
            signs += [chr(SIGNS + (drawn >> SIGN_BITS & 0x7FFF)), chr(SIGNS + (drawn & 0x7FFF))]
        return "".join(signs)


def longest(length: int) -> int:
    """How many characters of a text a column of this length holds veiled."""
    return (length - 2) // 2


class Asked(str):
    """A text that a column is compared with: itself what SQL takes in clear, with what was asked for."""

    __slots__ = ("asked",)
    asked: str

    def __new__(cls, asked: str) -> Self:
        """asked: as somebody wrote it, folded as the column is."""
        made = super().__new__(cls, cls.in_clear(asked))
        made.asked = asked
        return made

    @staticmethod
    def in_clear(asked: str) -> str:
        """What SQL takes where names stand in clear."""
        return asked

    def veiled(self, veil: Veil, length: int) -> str:
        """The same where they are veiled, for a column of this length. Raises Unanswerable."""
        raise NotImplementedError


class Beginning(Asked):
    """The first text that begins so."""

    __slots__ = ()

    def veiled(self, veil: Veil, length: int) -> str:
        """How veiled texts begin then."""
        return MARK + veil.words(self.asked[: longest(length)]) if self.asked else ""


class Beyond(Beginning):
    """What comes after all texts that begin so."""

    __slots__ = ()

    @staticmethod
    def in_clear(asked: str) -> str:
        """After all that goes on."""
        return asked + AFTER_ALL

    def veiled(self, veil: Veil, length: int) -> str:
        """The same of signs."""
        return super().veiled(veil, length) + AFTER_ALL


class Wildcard(Asked):
    """For LIKE: a pattern with `*` and `?`."""

    __slots__ = ()

    @staticmethod
    def in_clear(asked: str) -> str:
        """In LIKE's own words."""
        return _escaped(asked).replace("*", "%").replace("?", "_")

    def veiled(self, veil: Veil, length: int) -> str:
        """The pattern over signs."""
        return veil.pattern(self.asked)


class Containing(Asked):
    """For LIKE: a text that stands anywhere; of veiled texts, where a word begins."""

    __slots__ = ()

    @staticmethod
    def in_clear(asked: str) -> str:
        """Anything around it."""
        return f"%{_escaped(asked)}%"

    def veiled(self, veil: Veil, length: int) -> str:
        """Its signs, anywhere: in a word that has it further on they are others."""
        return f"%{veil.words(self.asked)}%"


class Ending(Asked):
    """For LIKE: how a text ends."""

    __slots__ = ()

    @staticmethod
    def in_clear(asked: str) -> str:
        """Anything before it."""
        return f"%{_escaped(asked)}"

    def veiled(self, veil: Veil, length: int) -> str:
        """The signs of an end go by all that is before it."""
        raise Unanswerable


def _escaped(text: str) -> str:
    """A text within a pattern of LIKE, whose escape is the backslash."""
    return re.sub(r"([\\%_])", r"\\\1", text)
