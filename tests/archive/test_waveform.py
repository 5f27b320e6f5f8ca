"""Waveforms: what samples are worth, and that a page shows them to scale."""

from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from archive.image_pixel import NotAnImage
from archive.image_source import ImageSource
from archive.trace_page import (
    BOTTOM_MM,
    LEAST_ROW_MM,
    LEFT_MM,
    MM_PER_S,
    PIXELS_PER_MM,
    RIGHT_MM,
    SHOWN_S,
    TOP_MM,
    draw_page,
    thinned,
)
from archive.waveform import MOST_CHANNELS, read_recording

HZ = 500


def item(**attributes: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def channel(label: str, unit: str = "uV", **attributes: Any) -> Dataset:
    source = item(CodeValue="1", CodingSchemeDesignator="99X", CodeMeaning=label)
    units = item(CodeValue=unit, CodingSchemeDesignator="UCUM", CodeMeaning=unit)
    given = {"ChannelSensitivity": "2.5", "ChannelSensitivityCorrectionFactor": "1", "ChannelBaseline": "0"}
    return item(
        ChannelSourceSequence=[source], ChannelSensitivityUnitsSequence=[units], WaveformBitsStored=16,
        **{**given, **attributes},
    )  # fmt: skip


def group(samples: "np.ndarray[Any, Any]", *channels: Dataset, **attributes: Any) -> Dataset:
    described = item(
        WaveformOriginality="ORIGINAL", NumberOfWaveformChannels=len(channels),
        NumberOfWaveformSamples=len(samples), SamplingFrequency=str(HZ),
        ChannelDefinitionSequence=list(channels), WaveformBitsAllocated=16, WaveformSampleInterpretation="SS",
    )  # fmt: skip
    for keyword, value in attributes.items():
        setattr(described, keyword, value)
    described.add_new("WaveformData", "OW", np.ascontiguousarray(samples, "<i2").tobytes())
    return described


def source_of(*groups: Dataset) -> ImageSource:
    ds = item(WaveformSequence=list(groups), AcquisitionDateTime="20260228101530")
    return ImageSource(ds.to_json_dict(), lambda path: b"")


def step() -> "np.ndarray[Any, Any]":
    """Two seconds: 0 mV, then 1 mV, at 2.5 uV a step."""
    samples = np.zeros((2 * HZ, 1), "i2")
    samples[HZ:] = 400
    return samples


def test_samples_are_worth_what_their_channel_says() -> None:
    samples = np.array([[100, 7], [-100, 8], [200, 9]])
    arterial = channel(
        "ART",
        "mm[Hg]",
        ChannelSensitivity="0.5",
        ChannelSensitivityCorrectionFactor="2",
        ChannelBaseline="10",
    )
    read = read_recording(source_of(group(samples, channel("Lead II"), arterial)), 10)

    assert [(each.label, each.unit) for each in read.channels] == [("II", "mV"), ("ART", "mm[Hg]")]
    assert read.channels[0].values.tolist() == pytest.approx([0.25, -0.25, 0.5])
    assert read.channels[1].values.tolist() == [17, 18, 19]


def test_a_gap_is_no_value_and_what_is_derived_stands_behind() -> None:
    samples = np.array([[1], [-32768], [3]])
    padded = group(samples, channel("Lead I"))
    padded.add_new("WaveformPaddingValue", "OW", b"\x00\x80")
    median = group(samples, channel("Lead I"), WaveformOriginality="DERIVED", SamplingFrequency="1000")
    read = read_recording(source_of(median, padded), 10)

    assert read.frequency_hz == HZ
    assert np.isnan(read.channels[0].values).tolist() == [False, True, False]


def test_only_the_beginning_of_a_long_recording_is_read() -> None:
    read = read_recording(source_of(group(np.zeros((60 * HZ, 1)), channel("Lead I"))), 10)

    assert (len(read.channels[0].values), read.duration_s) == (10 * HZ, 60)


@pytest.mark.parametrize(
    "wrong",
    [{"WaveformSampleInterpretation": "MB"}, {"SamplingFrequency": "0"},
     {"SamplingFrequency": "1e308"}, {"NumberOfWaveformChannels": 2},
     {"NumberOfWaveformChannels": 0}, {"NumberOfWaveformSamples": 0}, {"ChannelDefinitionSequence": []}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(NotAnImage):
        read_recording(source_of(group(step(), channel("Lead I"), **wrong)), 10)
    with pytest.raises(NotAnImage):
        read_recording(source_of(), 10)


def dark_rows(page: Image.Image, second: float) -> "np.ndarray[Any, Any]":
    """Where the trace is at a time, in pixels, between what is written above and below."""
    column = np.asarray(page.convert("L"))[:, round((LEFT_MM + second * 25) * PIXELS_PER_MM)]
    return np.flatnonzero(column[10 * PIXELS_PER_MM : -10 * PIXELS_PER_MM] < 110)


def test_a_second_is_25_mm_and_a_millivolt_10_mm() -> None:
    page = draw_page(source_of(group(step(), channel("Lead I"))))
    before, after = dark_rows(page, 0.7), dark_rows(page, 1.3)

    assert page.width == (LEFT_MM + 50 + 5) * PIXELS_PER_MM
    assert before.mean() - after.mean() == pytest.approx(10 * PIXELS_PER_MM, abs=1)
    assert dark_rows(page, 0.98).tolist() == before.tolist()
    assert dark_rows(page, 1.02).tolist() == after.tolist()


def test_a_trace_that_is_too_large_is_drawn_at_a_lower_gain() -> None:
    page = draw_page(source_of(group(step() * 6, channel("Lead I"))))

    assert dark_rows(page, 0.7).mean() - dark_rows(page, 1.3).mean() == pytest.approx(
        6 * 5 * PIXELS_PER_MM, abs=1
    )


def test_what_is_no_voltage_fills_its_row_and_a_gap_is_left_out() -> None:
    samples = step()
    samples[HZ // 2 : HZ] = -32768
    pressure = group(samples, channel("ART", "mm[Hg]"))
    pressure.add_new("WaveformPaddingValue", "OW", b"\x00\x80")
    page = draw_page(source_of(pressure))

    assert dark_rows(page, 0.25).mean() - dark_rows(page, 1.5).mean() == pytest.approx(
        12 * PIXELS_PER_MM, abs=1
    )
    assert dark_rows(page, 0.75).size == 0


@pytest.mark.parametrize("frequency", ["0.001", "0.0000001", "1e-300"])
def test_a_page_is_no_wider_than_what_it_shows_however_slow_the_recording(frequency: str) -> None:
    page = draw_page(source_of(group(step(), channel("Lead I"), SamplingFrequency=frequency)))

    assert page.width <= (LEFT_MM + SHOWN_S * MM_PER_S + RIGHT_MM) * PIXELS_PER_MM


def test_a_page_of_many_channels_is_no_higher_than_some_rows() -> None:
    samples = np.zeros((HZ, MOST_CHANNELS), "i2")
    samples[::2] = 8000  # 20 mV: at any gain more than a row
    page = draw_page(source_of(group(samples, *(channel(f"EEG {at}") for at in range(MOST_CHANNELS)))))

    assert page.height <= (TOP_MM + MOST_CHANNELS * LEAST_ROW_MM + BOTTOM_MM) * PIXELS_PER_MM


def test_no_spike_is_lost_when_many_samples_share_a_pixel() -> None:
    values = np.zeros(100_000)
    values[54_321] = 3.0
    drawn, step_samples = thinned(values, 1000)

    assert len(drawn) <= 1000
    assert drawn.max() == 3.0
    assert np.argmax(drawn) * step_samples == pytest.approx(54_321, abs=2 * step_samples)
