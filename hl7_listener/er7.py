"""ER7: the vertical-bar encoding of HL7 v2, read leniently and written strictly (chapter 2).

The text is decoded before it is split, for in GBK the second byte of a character may be a delimiter. What
a sender declares in MSH-18 is tried first; when that does not decode, UTF-8 and GB18030 are, and which one
did is kept. A line that does not start like a segment belongs to the one before it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from kernel.errors import CloudfilmError, Kind

CHARACTER_SETS = {  # HL7 table 0211, and what senders write in its place
    "": "utf-8", "ASCII": "ascii", "UNICODE UTF-8": "utf-8", "UTF-8": "utf-8", "UTF8": "utf-8",
    "UNICODE": "utf-8", "GB 18030-2000": "gb18030", "GB18030": "gb18030", "GB 18030": "gb18030",
    "GBK": "gb18030", "GB2312": "gb18030",
    "CP936": "gb18030", "BIG-5": "big5", "BIG5": "big5", "8859/1": "latin-1", "8859/2": "iso8859-2",
    "8859/3": "iso8859-3", "8859/4": "iso8859-4", "8859/5": "iso8859-5", "8859/6": "iso8859-6",
    "8859/7": "iso8859-7", "8859/8": "iso8859-8", "8859/9": "iso8859-9", "8859/15": "iso8859-15",
    "ISO IR87": "iso2022_jp", "ISO IR14": "shift_jis", "KS X 1001": "euc_kr",
}  # fmt: skip
SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}(?=[^A-Za-z0-9\s])|[A-Z][A-Z0-9]{2}$")
HAN_IN_UTF8 = re.compile(rb"[\xe3-\xe9][\x80-\xbf]{2}")
HIGH_RUN = re.compile(rb"[\x80-\xff]+")
COMMON_GBK = re.compile(rb"(?:[\xa1-\xa9\xb0-\xf7][\xa1-\xfe])+")  # GB 2312: signs and characters
NULL = '""'


class UnreadableMessage(CloudfilmError):
    """Bytes that are no HL7 v2 message; `location` is the segment and field, `code` is of HL7 table 0357."""

    kind = Kind.INVALID

    def __init__(self, reason: str, location: str = "MSH", code: str = "102") -> None:
        super().__init__(reason)
        self.location = location
        self.code = code


@dataclass(frozen=True, slots=True)
class Delimiters:
    """MSH-1 and MSH-2."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"

    @property
    def encoding_characters(self) -> str:
        """As MSH-2 has them."""
        return self.component + self.repetition + self.escape + self.subcomponent


STANDARD = Delimiters()


@dataclass(frozen=True, slots=True)
class Value:
    """One repetition of a field: components, each of subcomponents, unescaped when they are asked for."""

    text: str
    delimiters: Delimiters

    def component(self, number: int, subcomponent: int = 1) -> str:
        """Component 1 is the first; empty when there is none, or HL7's null."""
        parts = self.text.split(self.delimiters.component)
        if number > len(parts):
            return ""
        inner = parts[number - 1].split(self.delimiters.subcomponent)
        text = inner[subcomponent - 1] if subcomponent <= len(inner) else ""
        return "" if text == NULL else unescape(text, self.delimiters).strip()

    @property
    def whole(self) -> str:
        """The repetition as one text, its delimiters as they stand."""
        return "" if self.text == NULL else unescape(self.text, self.delimiters)

    def rest(self, number: int) -> str:
        """All from one component on, its delimiters as they stand."""
        parts = self.text.split(self.delimiters.component, number - 1)
        return unescape(parts[number - 1], self.delimiters) if len(parts) >= number else ""

    def subvalue(self, number: int) -> "Value":
        """One component whose subcomponents stand for components (a CWE in a field of composites)."""
        parts = self.text.split(self.delimiters.component)
        text = parts[number - 1] if number <= len(parts) else ""
        return Value(text.replace(self.delimiters.subcomponent, self.delimiters.component), self.delimiters)


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment. Field numbers are the standard's: PID-3 is `segment.values(3)`."""

    name: str
    fields: tuple[str, ...]  # [0] is field 1
    delimiters: Delimiters

    def raw(self, number: int) -> str:
        """The field as it was sent."""
        return self.fields[number - 1] if 0 < number <= len(self.fields) else ""

    def values(self, number: int) -> tuple[Value, ...]:
        """The repetitions of a field that say something."""
        raw = self.raw(number)
        if not raw:
            return ()
        return tuple(Value(text, self.delimiters) for text in raw.split(self.delimiters.repetition) if text)

    def value(self, number: int) -> Value:
        """The first repetition."""
        return next(iter(self.values(number)), Value("", self.delimiters))

    def get(self, number: int, component: int = 1, subcomponent: int = 1) -> str:
        """A component of the first repetition, unescaped."""
        return self.value(number).component(component, subcomponent)

    def is_deleted(self, number: int) -> bool:
        """Whether the sender deletes the value (chapter 2.5.3, `""`); an empty field says nothing."""
        return self.raw(number) == NULL


@dataclass(frozen=True)
class Message:
    """A message that was read. `repairs` says what had to be mended, for people."""

    segments: tuple[Segment, ...]
    charset: str
    repairs: tuple[str, ...] = field(default=())

    @cached_property
    def msh(self) -> Segment:
        """The first segment, MSH."""
        return self.segments[0]

    def all(self, name: str) -> tuple[Segment, ...]:
        """Every segment of this name."""
        return tuple(segment for segment in self.segments if segment.name == name)

    def first(self, name: str) -> Segment:
        """The first of this name, or an empty one."""
        found = next((segment for segment in self.segments if segment.name == name), None)
        return found if found is not None else Segment(name, (), self.segments[0].delimiters)

    def has(self, name: str) -> bool:
        """Whether there is a segment of this name."""
        return any(segment.name == name for segment in self.segments)

    def groups(
        self, start: str, within: tuple["Segment", ...] | None = None
    ) -> Iterator[tuple[Segment, ...]]:
        """Runs of segments that each begin with a segment `start`."""
        group: list[Segment] = []
        for segment in within if within is not None else self.segments:
            if segment.name == start:
                if group:
                    yield tuple(group)
                group = [segment]
            elif group:
                group.append(segment)
        if group:
            yield tuple(group)

    @property
    def message_code(self) -> str:
        """MSH-9.1, such as ADT."""
        return self.msh.get(9, 1)

    @property
    def trigger_event(self) -> str:
        """MSH-9.2, such as A01; in messages of before 2.3.1 it may stand in EVN-1 alone."""
        return self.msh.get(9, 2) or self.first("EVN").get(1)

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self.msh.get(10)

    @property
    def sender(self) -> str:
        """Sending application and facility (MSH-3, MSH-4): control ids are unique to it."""
        return f"{self.msh.get(3)}|{self.msh.get(4)}"


def parse(raw: bytes) -> Message:
    """Read one message. Raises UnreadableMessage, which names what is wrong."""
    raw = raw.strip(b"\r\n \t\xef\xbb\xbf")
    if not raw.startswith(b"MSH"):
        raise UnreadableMessage("The message does not begin with MSH.", code="100")
    if b"\x00" in raw:
        raise UnreadableMessage("The message holds NUL bytes.")
    if b"\x0b" in raw or b"\x1c" in raw:
        raise UnreadableMessage("The message holds framing bytes (0x0B or 0x1C).")
    text, charset, repairs = decode(raw)
    lines = _lines(text)
    header = lines[0]
    if len(header) < 8:
        raise UnreadableMessage("MSH is too short to name its delimiters.", "MSH-2", "101")
    delimiters = _delimiters(header)
    segments = [Segment("MSH", (delimiters.field, *header.split(delimiters.field)[1:]), delimiters)]
    for line in lines[1:]:
        name, *fields = line.split(delimiters.field)
        if name == "MSH":
            raise UnreadableMessage("There are two messages in one frame; send them one by one.", code="100")
        segments.append(Segment(name, tuple(fields), delimiters))
    return Message(tuple(segments), charset, repairs)


def decode(raw: bytes) -> tuple[str, str, tuple[str, ...]]:
    """The text, the character set that it was read in, and what that says of the declared one (MSH-18)."""
    declared = declared_charset(raw)
    wanted = CHARACTER_SETS.get(declared.upper(), "utf-8")
    for charset in dict.fromkeys((wanted, "utf-8", "gb18030")):
        if charset == "latin-1" and charset == wanted and _is_really_chinese(raw):
            continue  # a default that nobody set: Latin-1 decodes anything, so decoding it is no proof
        if charset == "gb18030" and charset == wanted and _is_really_utf_8(raw):
            continue  # GB 18030 decodes most of what is UTF-8, to characters that nobody writes
        try:
            text = raw.decode(charset)
        except (UnicodeDecodeError, LookupError):
            continue
        if charset == wanted:
            return text, charset, ()
        return text, charset, (f"MSH-18 says {declared or 'nothing'}, the text is {charset}",)
    return (
        raw.decode("latin-1"),
        "latin-1",
        (f"MSH-18 says {declared or 'nothing'}, the text is no {wanted}",),
    )


def _is_really_chinese(raw: bytes) -> bool:
    """Whether bytes declared as ISO 8859-1 are Chinese text in UTF-8 or GBK.

    In GBK every run of high bytes is made of pairs of the common characters' range; accented letters of
    Western names stand alone.
    """
    if HAN_IN_UTF8.search(raw):
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            return True
    runs = HIGH_RUN.findall(raw)
    return bool(runs) and all(COMMON_GBK.fullmatch(run) for run in runs)


def _is_really_utf_8(raw: bytes) -> bool:
    """Whether bytes declared as GB 18030 are Chinese in UTF-8: they are valid as that, and as GB 18030 they
    hold characters beyond those of GB 2312."""
    if not HAN_IN_UTF8.search(raw) or all(COMMON_GBK.fullmatch(run) for run in HIGH_RUN.findall(raw)):
        return False
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def encode(text: str) -> bytes:
    """A message that came as characters, in the character set that its MSH-18 declares, if it can be."""
    declared = declared_charset(text.encode())
    try:
        return text.encode(CHARACTER_SETS.get(declared.upper(), "utf-8"))
    except UnicodeEncodeError:
        return text.encode()


def declared_charset(raw: bytes) -> str:
    """MSH-18, first repetition, read from the bytes."""
    header = re.split(rb"[\r\n]", raw, maxsplit=1)[0]
    fields = header.split(header[3:4]) if len(header) > 3 else []
    return fields[17].split(b"~")[0].decode("ascii", errors="replace").strip() if len(fields) > 17 else ""


def _lines(text: str) -> list[str]:
    """The segments as lines; what follows one without a segment's name is part of it."""
    starts: list[list[str]] = []
    for line in re.split(r"[\r\n]+", text):
        if line.strip():
            if not starts or SEGMENT.match(line):
                starts.append([line])
            else:
                starts[-1].append(line)
    return ["\n".join(lines) for lines in starts]


def _delimiters(header: str) -> Delimiters:
    separator = header[3]
    characters = header.split(separator)[1].replace("\\\\", "\\")  # doubled by a careless programme
    padded = characters + STANDARD.encoding_characters[len(characters) :]
    if separator.isalnum() or len(set(padded[:4] + separator)) < 5:
        raise UnreadableMessage("The delimiters of MSH-1 and MSH-2 are not distinct.", "MSH-2")
    return Delimiters(separator, *padded[:4])


def unescape(text: str, delimiters: Delimiters) -> str:
    """Resolve escape sequences (chapter 2.7); one that is not known stays as it is."""
    mark = delimiters.escape
    if mark not in text:
        return text
    parts = text.split(mark)
    out = [parts[0]]
    at = 1
    while at < len(parts):
        resolved = _resolve(parts[at], delimiters) if at + 1 < len(parts) else None
        if resolved is None:
            out.append(mark + parts[at])
            at += 1
        else:
            out.append(resolved + parts[at + 1])
            at += 2
    return "".join(out)


def _resolve(sequence: str, delimiters: Delimiters) -> str | None:
    simple = {
        "F": delimiters.field,
        "S": delimiters.component,
        "T": delimiters.subcomponent,
        "R": delimiters.repetition,
        "E": delimiters.escape,
        "H": "",
        "N": "",
        ".br": "\n",
        ".sp": "\n",
    }
    if sequence in simple:
        return simple[sequence]
    if sequence[:1] == "X" and len(sequence) % 2 and len(sequence) > 1:
        try:
            text = _bytes_text(bytes.fromhex(sequence[1:]))
        except ValueError:
            return None
        return None if "\0" in text else text  # no text anywhere can hold it
    if re.fullmatch(r"\.(sp|in|ti|sk)[+-]?\d+", sequence):
        return "\n" if sequence.startswith(".sp") else " "
    if sequence in (".fi", ".nf", ".ce"):
        return ""
    return None


def _bytes_text(raw: bytes) -> str:
    for charset in ("utf-8", "gb18030"):
        try:
            return raw.decode(charset)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


ESCAPED = str.maketrans(
    {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": "\\.br\\", "\n": "\\.br\\"}
)


def escape(text: str) -> str:
    """Text for a field, with the standard delimiters escaped."""
    return text.replace("\r\n", "\n").translate(ESCAPED)


def segment(name: str, *fields: str) -> str:
    """A segment from fields that are escaped already; empty ones at the end are left out."""
    parts = list(fields)
    while parts and not parts[-1]:
        parts.pop()
    return "|".join((name, *parts))


def write(segments: list[str], charset: str = "utf-8") -> bytes:
    """Segments as the bytes of a message."""
    return ("\r".join(segments) + "\r").encode(charset, errors="replace")


def split_batch(raw: bytes) -> list[bytes] | None:
    """The messages of a batch (FHS or BHS, chapter 2.10.3); None when it is none."""
    if not raw.lstrip(b"\r\n \t").startswith((b"FHS", b"BHS")):
        return None
    messages: list[list[bytes]] = []
    for line in re.split(rb"[\r\n]+", raw):
        if line.startswith(b"MSH"):
            messages.append([line])
        elif messages and line and line[:3] not in (b"BTS", b"FTS", b"BHS", b"FHS"):
            messages[-1].append(line)
    return [b"\r".join(lines) + b"\r" for lines in messages]


def batch_of(messages: tuple[bytes, ...], at: datetime) -> bytes:
    """Messages as one batch (2.10.3.2): the answer to a batch, where the sender wants one answer."""
    head = f"BHS|^~\\&|CLOUDFILM|||||{at:%Y%m%d%H%M%S}+0000\r".encode()
    return head + b"".join(messages) + f"BTS|{len(messages)}\r".encode()
