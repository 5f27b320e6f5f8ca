"""Character sets: bytes of a DICOM text to characters, also where the label is missing, misspelt or wrong.

PS3.3 C.12.1.1.2 (Specific Character Set), PS3.5 6.1.2 and annexes H to K. Chinese devices are known to
write GBK
bytes and to declare ISO_IR 100, ISO_IR 192 or nothing. Such text is recognised only where the declared
reading is impossible or absurd, and each repair is said in so many words, without the text itself.
"""

import re
from dataclasses import dataclass, field

import pydicom.charset

SINGLE = {  # defined terms without code extensions, in the spelling of `_spelt`
    "": "ascii",
    "ISO_IR 6": "ascii",
    "ISO_IR 100": "latin_1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 203": "iso8859_15",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 166": "iso8859_11",
    "ISO_IR 192": "utf_8",
    "GB18030": "gb18030",
    "GBK": "gbk",
}

MISSPELT = {"UTF8": "ISO_IR 192", "UTF-8": "ISO_IR 192", "GB2312": "GB18030", "GB 18030": "GB18030"}

GUESSED_OVER = frozenset({"ascii", "latin_1", "iso8859_2", "iso8859_3", "iso8859_4", "iso8859_9"})
"""Declared sets in which a run of paired high bytes is absurd; other alphabets write whole words in such
bytes."""

UNESCAPED = {"iso_ir_58": "gb2312", "euc_kr": "euc_kr"}
"""Code extensions whose characters are all high bytes, and can be told without an escape sequence."""

HIGH_RUN = re.compile(rb"[\x80-\xff]+")
EXTENSION = re.compile(r"ISO[ _-]*2022[ _-]*IR[ _-]*(\d+)")
PLAIN = re.compile(r"ISO[ _-]*IR[ _-]*(\d+)")


@dataclass(slots=True)
class TextDecoder:
    """Decodes the texts of one dataset, and remembers what had to be repaired."""

    terms: tuple[str, ...] = ()
    repairs: dict[str, None] = field(default_factory=dict)  # in order, each once
    _codec: str = "ascii"
    _extensions: tuple[str, ...] = ()

    @classmethod
    def of(cls, declared: list[str], repairs: dict[str, None] | None = None) -> "TextDecoder":
        """For the values of Specific Character Set (0008,0005)."""
        decoder = cls((), {} if repairs is None else repairs)
        terms = []
        for term in declared:
            spelt = _spelt(term)
            if spelt != term.strip():
                decoder.repairs[f"character set {_printable(term)} read as {spelt or 'the default'}"] = None
            terms.append(spelt)
        decoder.terms = tuple(terms)
        if len(terms) > 1 or any(term.startswith("ISO 2022") for term in terms):
            decoder._extensions = tuple(
                pydicom.charset.convert_encodings([term or "ISO_IR 6" for term in terms])
            )
            decoder._codec = decoder._extensions[0]
        elif terms:
            decoder._codec = SINGLE.get(terms[0], "ascii")
        return decoder

    def decode(self, raw: bytes, delimiters: str = "") -> str:
        """The text of some bytes; never raises. delimiters: characters that reset code extensions (PS3.5
        6.1.2.5.3)."""
        if raw.isascii() and b"\x1b" not in raw:
            return raw.decode("ascii")
        if self._extensions and b"\x1b" in raw:
            separators = {ord(each) for each in delimiters}
            return without_escapes(pydicom.charset.decode_bytes(raw, self._extensions, separators))
        for codec in self._extensions[1:]:  # some writers leave the escape sequences out
            if codec in UNESCAPED and (text := _strictly(raw, UNESCAPED[codec])) is not None:
                self.repairs["text without escape sequences read as its code extension"] = None
                return text
        guessed = self._guess(raw)
        if guessed is not None:
            return guessed
        try:
            return raw.decode(self._codec)
        except (UnicodeDecodeError, LookupError):
            self.repairs["bytes outside of the declared character set replaced"] = None
            return raw.decode("latin_1" if self._codec == "ascii" else self._codec, errors="replace")

    def _guess(self, raw: bytes) -> str | None:
        """Another reading than the declared one, where that is impossible or absurd."""
        if self._codec in GUESSED_OVER:
            for codec in ("utf_8", "gb2312"):
                if codec == "gb2312" and any(len(run) % 2 for run in HIGH_RUN.findall(raw)):
                    continue
                if (text := _strictly(raw, codec)) is not None and (codec == "utf_8" or _has_han(text)):
                    self._note(codec)
                    return text
        elif self._codec in ("utf_8", "gb18030", "gbk") and _strictly(raw, self._codec) is None:
            for codec in ("gb18030", "utf_8"):
                if (text := _strictly(raw, codec)) is not None:
                    self._note(codec)
                    return text
        return None

    def _note(self, codec: str) -> None:
        declared = "/".join(self.terms) or "nothing"
        self.repairs[f"text declared as {declared} read as {'GBK' if codec != 'utf_8' else 'UTF-8'}"] = None


def without_escapes(text: str) -> str:
    """A text as pydicom decodes ISO 2022 IR 58, which leaves that set's escape sequence in it."""
    return text.replace("\x1b$)A", "")


def _strictly(raw: bytes, codec: str) -> str | None:
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        return None


def _has_han(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)


def _spelt(term: str) -> str:
    """A defined term as the standard spells it; one that is not known becomes the default repertoire."""
    term = term.strip()
    upper = MISSPELT.get(term.upper(), term.upper())
    if upper in SINGLE:
        return upper
    if match := EXTENSION.fullmatch(upper):
        spelt = f"ISO 2022 IR {match[1]}"
        return spelt if spelt in pydicom.charset.python_encoding else ""
    if match := PLAIN.fullmatch(upper):
        spelt = f"ISO_IR {match[1]}"
        return spelt if spelt in SINGLE else ""
    return ""


def _printable(term: str) -> str:
    return "".join(character for character in term[:32] if character.isprintable())
