"""New forms of a stored instance for retrieval: some of its frames, or all but its bulk data.

Standards: PS3.4 annex Y (frame level: Y.3.2 frame lists, Y.3.3 new object) and annex Z (without bulk data),
PS3.3 C.12.3 (Frame Extraction).
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian
from pydicom.valuerep import DT

from archive.header import BIG_ENDIAN, DEFLATED
from archive.retrieve import StoredInstance
from archive.room import Archive
from dimse.conversion import PLAIN, encode_data_set, read_header_set, targets, with_frames
from dimse.sending import DataSet, Outgoing
from dimse.statuses import (
    CANNOT_EXTRACT_FRAMES,
    INVALID_FRAME_REQUEST,
    NO_SUCH_FRAMES,
    NOT_TIME_BASED,
    Refusal,
)
from dimse.store import STORAGE_SYNTAXES

NAMESPACE = uuid.UUID("b5a6e9d4-2f0c-5b7e-9a53-6f1f0c2d7e11")  # of extracted objects' UIDs (RFC 4122 4.3)


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """Which frames are asked for, in one of three ways (PS3.4 Y.3.2.1)."""

    simple: tuple[int, ...] = ()
    calculated: tuple[int, ...] = ()  # triplets: first, last, step
    times: tuple[float, float] | None = None  # seconds since the content time, both ends included


def parse_frame_request(identifier: Dataset) -> FrameRequest:
    """Read the frame range keys; exactly one is there. Raises Refusal."""
    simple = _numbers(identifier, "SimpleFrameList")
    calculated = _numbers(identifier, "CalculatedFrameList")
    times = _numbers(identifier, "TimeRange")
    if sum(map(bool, (simple, calculated, times))) != 1:
        raise Refusal(INVALID_FRAME_REQUEST, "One of three ways to name frames is needed")
    if times:
        if len(times) != 2 or times[0] > times[1]:
            raise Refusal(INVALID_FRAME_REQUEST, "The time range needs a begin and an end")
        return FrameRequest(times=(times[0], times[1]))
    frames = tuple(int(number) for number in simple)
    triplets = tuple(int(number) for number in calculated)
    if any(later <= earlier for earlier, later in pairwise(frames)):
        raise Refusal(INVALID_FRAME_REQUEST, "Frame numbers must increase")
    if len(triplets) % 3 or any(
        not 1 <= first <= last or step < 1 for first, last, step in _in_threes(triplets)
    ):
        raise Refusal(INVALID_FRAME_REQUEST, "A calculated frame list has first, last and step")
    return FrameRequest(frames, triplets)


def _numbers(identifier: Dataset, keyword: str) -> tuple[float, ...]:
    value = identifier.get(keyword)
    if value is None or value == "":
        return ()
    values = value if isinstance(value, MultiValue | list | tuple) else [value]
    return tuple(float(each) for each in values)


def _in_threes(numbers: tuple[int, ...]) -> list[tuple[int, int, int]]:
    return [(numbers[at], numbers[at + 1], numbers[at + 2]) for at in range(0, len(numbers), 3)]


def frame_numbers(asked: FrameRequest, header: Dataset, count: int) -> list[int]:
    """The frames that are asked for and there, from 1. Raises Refusal when there is none, or when a time
    is asked of an object that has none."""
    if asked.times is not None:
        first, last = asked.times
        times = frame_times(header, count)
        found = [number for number, time in enumerate(times, 1) if first <= time <= last]
    elif asked.calculated:
        ranges = _in_threes(asked.calculated)
        found = sorted(
            {number for first, last, step in ranges for number in range(first, min(last, count) + 1, step)}
        )
    else:
        found = [number for number in asked.simple if 1 <= number <= count]
    if not found:
        raise Refusal(NO_SUCH_FRAMES, "None of the frames was found")
    return found


def frame_times(header: Dataset, count: int) -> list[float]:
    """Seconds of each frame since the first one or the content time. Raises Refusal."""
    try:
        if header.get("FrameTimeVector"):
            increments = [float(each) for each in header.FrameTimeVector][:count]
            return [sum(increments[: at + 1]) / 1000 for at in range(len(increments))]
        if header.get("FrameTime"):
            return [at * float(header.FrameTime) / 1000 for at in range(count)]
        groups = [item.FrameContentSequence[0] for item in header.PerFrameFunctionalGroupsSequence]
        moments = [
            _moment(group.get("FrameReferenceDateTime") or group.FrameAcquisitionDateTime) for group in groups
        ]
        begin = _moment(f"{header.ContentDate}{header.ContentTime}")
        return [(moment - begin).total_seconds() for moment in moments]
    except (AttributeError, IndexError, TypeError, ValueError):
        raise Refusal(NOT_TIME_BASED, "The object does not say when its frames were taken") from None


def _moment(text: object) -> datetime:
    return datetime.combine(DT(str(text)).date(), DT(str(text)).time())


def as_frames(archive: Archive, stored: StoredInstance, asked: FrameRequest) -> Outgoing:
    """A new instance with some of the frames of a stored one (PS3.4 Y.3.3). Raises Refusal.

    The same frames of the same instance have the same new UID, so that a retrieval that is repeated does
    not make another object.
    """
    if not stored.number_of_frames:
        raise Refusal(CANNOT_EXTRACT_FRAMES, "The object has no frames")
    header = read_header_set(archive, stored)
    numbers = frame_numbers(asked, header, stored.number_of_frames)
    name = f"{stored.sop_instance_uid} {','.join(map(str, numbers))}"
    header.SOPInstanceUID = f"2.25.{uuid.uuid5(NAMESPACE, name).int}"
    header.NumberOfFrames = len(numbers)
    if "PerFrameFunctionalGroupsSequence" in header:
        groups = header.PerFrameFunctionalGroupsSequence
        header.PerFrameFunctionalGroupsSequence = Sequence(
            groups[number - 1] for number in numbers if number <= len(groups)
        )
    if header.get("FrameTimeVector"):
        times = frame_times(header, stored.number_of_frames)
        kept = [times[number - 1] for number in numbers if number <= len(times)]
        steps = [after - before for before, after in pairwise(kept)]
        header.FrameTimeVector = [0, *(round(step * 1000, 6) for step in steps)]
    for table in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        header.pop(table, None)
    header.FrameExtractionSequence = [*header.get("FrameExtractionSequence", ()), _extracted(stored, asked)]
    is_file_order = stored.transfer_syntax_uid in (*DEFLATED, BIG_ENDIAN)
    own = PLAIN[0] if is_file_order else stored.transfer_syntax_uid
    size = stored.size_bytes * len(numbers) // stored.number_of_frames

    def data_set(transfer_syntax: str) -> DataSet:
        return with_frames(archive, stored, header, numbers, transfer_syntax)

    others = tuple(syntax for syntax in (*targets(own), *PLAIN) if syntax != own)
    return Outgoing(stored.sop_class_uid, str(header.SOPInstanceUID), own, others, data_set, size)


def _extracted(stored: StoredInstance, asked: FrameRequest) -> Dataset:
    """How the object came about (PS3.3 C.12.3)."""
    item = Dataset()
    item.MultiFrameSourceSOPInstanceUID = stored.sop_instance_uid
    if asked.times is not None:
        item.TimeRange = list(asked.times)
    elif asked.calculated:
        item.CalculatedFrameList = list(asked.calculated)
    else:
        item.SimpleFrameList = list(asked.simple)
    return item


BULK = (0x00287FE0, 0x56000020)  # Pixel Data Provider URL, Spectroscopy Data; pixels are not read at all
REPEATED_BULK = {0x6000: (0x3000,), 0x5000: (0x3000, 0x200C)}  # overlays; curves and their sound


def without_bulk_data(archive: Archive, stored: StoredInstance) -> Outgoing:
    """An instance less pixels, spectra, overlays, curves and waveforms (PS3.4 Z.1.3), under its own UID."""

    def data_set(transfer_syntax: str) -> DataSet:
        header = read_header_set(archive, stored)
        for tag in list(header.keys()):
            if tag in BULK or tag.element in REPEATED_BULK.get(tag.group & 0xFF00, ()):
                del header[tag]
        for item in header.get("WaveformSequence", ()):
            item.pop("WaveformData", None)
        return (encode_data_set(header, transfer_syntax == ImplicitVRLittleEndian),)

    stream = tuple(syntax for syntax in STORAGE_SYNTAXES if syntax not in (*PLAIN, *DEFLATED, BIG_ENDIAN))
    return Outgoing(
        stored.sop_class_uid, stored.sop_instance_uid, PLAIN[0], (*PLAIN[1:], *stream), data_set, 4096
    )
