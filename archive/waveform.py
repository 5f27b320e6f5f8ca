"""Waveforms: the channels of an ECG or another recording, in the units that they were measured in.

A multiplex group holds samples of all its channels in turn; a channel says by sensitivity, correction and
baseline what a sample is worth (PS3.3 C.10.9.1). Audio is no trace and is not read.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from archive.image_pixel import Attributes, NotAnImage, first, items, number, whole
from archive.image_source import ImageSource

WAVEFORM_CLASSES, AUDIO_CLASSES = "1.2.840.10008.5.1.4.1.1.9.", "1.2.840.10008.5.1.4.1.1.9.4."
SAMPLES = {"SB": "i1", "UB": "u1", "SS": "<i2", "US": "<u2", "SL": "<i4", "UL": "<u4"}  # (5400,1006)
MILLIVOLTS = {"V": 1000.0, "mV": 1.0, "uV": 0.001, "nV": 1e-6}  # UCUM
MOST_CHANNELS = 64
MOST_HZ = 1e6

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Channel:
    """One trace. Values are NaN where the recording has a gap."""

    label: str
    unit: str  # UCUM; voltages are in mV
    values: Values


@dataclass(frozen=True, slots=True)
class Recording:
    """One multiplex group, or the beginning of it."""

    frequency_hz: float
    duration_s: float  # of the whole, however much of it was read
    channels: tuple[Channel, ...]


def is_waveform(sop_class_uid: str) -> bool:
    """Whether a SOP class has traces that can be drawn."""
    return sop_class_uid.startswith(WAVEFORM_CLASSES) and not sop_class_uid.startswith(AUDIO_CLASSES)


def read_recording(source: ImageSource, most_s: float) -> Recording:
    """The first group of a waveform as it was recorded, else the first of all, up to some seconds.

    What a cart derives from it, as a median beat, stands in further groups. Raises NotAnImage.
    """
    groups = items(source.attributes, "54000100")
    recorded = [each for each in groups if first(each, "003A0004") == "ORIGINAL"]
    for group in (recorded or groups)[:1]:
        return _recording(source, group, most_s)
    raise NotAnImage("it has no waveform")


def _recording(source: ImageSource, group: Attributes, most_s: float) -> Recording:
    kind = SAMPLES.get(str(first(group, "54001006")))
    frequency_hz = number(group, "003A001A") or 0.0
    count, length = whole(group, "003A0005"), whole(group, "003A0010")
    channels = items(group, "003A0200")
    makes_sense = 0 < frequency_hz <= MOST_HZ and 0 < count <= MOST_CHANNELS and len(channels) == count
    if kind is None or not makes_sense:
        raise NotAnImage("its waveform is described in a way that makes no sense")
    data = source.binary(group, "54001010")
    there = min(length, len(data) // (np.dtype(kind).itemsize * count))
    shown = min(there, max(1, int(most_s * frequency_hz)))
    if not shown:
        raise NotAnImage("its waveform has no samples")
    samples = np.frombuffer(data, kind, shown * count).reshape(shown, count)
    padding = source.binary(group, "5400100A")
    gap = np.frombuffer(padding, kind, 1)[0] if len(padding) >= np.dtype(kind).itemsize else None
    read = (_channel(each, samples[:, at], gap) for at, each in enumerate(channels))
    return Recording(frequency_hz, there / frequency_hz, tuple(read))


def _channel(described: Attributes, samples: npt.NDArray[Any], gap: Any) -> Channel:
    values = samples.astype(np.float64)
    if gap is not None:
        values[samples == gap] = np.nan
    unit = str(next((first(each, "00080100") for each in items(described, "003A0211")), None) or "")
    sensitivity = number(described, "003A0210")
    if sensitivity is not None:
        values = values * sensitivity * (number(described, "003A0212") or 1.0)
        values += number(described, "003A0213") or 0.0
    factor = MILLIVOLTS.get(unit) if sensitivity is not None else None
    if factor is not None:
        values, unit = values * factor, "mV"
    named = first(described, "003A0203") or next(
        (first(each, "00080104") for each in items(described, "003A0208")), None
    )
    return Channel(str(named or "").removeprefix("Lead ").partition(" (")[0], unit, values)
