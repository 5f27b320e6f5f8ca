"""Rendering, shown right by comparison with dcmtk, which shares no code with it."""

import copy
import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from access.caller import Caller
from archive.grayscale import Window
from archive.header import NotPart10
from archive.image_pixel import NotAnImage, first, image_pixel_of
from archive.ingest import ingest
from archive.presentation_state import NotAPresentationState
from archive.render import (
    GIF,
    JPEG,
    PNG,
    InvalidRendering,
    Rendering,
    Viewport,
    encode_picture,
    render_frame,
    render_frames,
)
from archive.retrieve import find_instance
from archive.transcode import EXPLICIT_BIG, EXPLICIT_LITTLE
from cloudfilm.rooms import Rooms
from kernel.errors import CloudfilmError
from tests.archive.pictures import (
    Picture,
    dcmj2pnm,
    dcmp2pgm,
    image,
    image_dataset,
    largest_difference,
    noise,
    pixels_of,
    ramp,
)
from tests.builders import ROOT, part10

ROUNDING = 1  # a gray level: dcmtk cuts off where we round


def lut(first_value: int, entries: list[int], bits: int = 16) -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, "US", [len(entries), first_value, bits])
    item.ModalityLUTType = "US"
    item.add_new(0x00283006, "US", entries)
    return item


def square_lut(count: int = 4096) -> list[int]:
    return [at * at * 65535 // (count - 1) ** 2 for at in range(count)]


GRAY: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a window": ({"WindowCenter": 1000, "WindowWidth": 800}, ("+Wi", "1")),
    "a narrow window": ({"WindowCenter": 1000, "WindowWidth": 2}, ("+Wi", "1")),
    "a sigmoid window": (
        {"WindowCenter": 2000, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"}, ("+Wi", "1", "+Wfs"),
    ),
    "rescaled values": (
        {"WindowCenter": 40, "WindowWidth": 400, "RescaleSlope": "0.5", "RescaleIntercept": "-1024"},
        ("+Wi", "1"),
    ),
    "no window": ({}, ("+Wm",)),
    "the least value white": (
        {"WindowCenter": 1000, "WindowWidth": 800, "PhotometricInterpretation": "MONOCHROME1"}, ("+Wi", "1"),
    ),
    "a VOI LUT": ({"VOILUTSequence": [lut(0, square_lut())]}, ("+Wl", "1")),
    "a modality LUT": (
        {"ModalityLUTSequence": [lut(0, square_lut())], "WindowCenter": 30000, "WindowWidth": 50000},
        ("+Wi", "1"),
    ),
    "the first of two windows": (
        {"WindowCenter": [1000, 20], "WindowWidth": [800, 40]}, ("+Wi", "1"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAY)
@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, EXPLICIT_BIG])
def test_grays_are_those_that_dcmtk_draws(tmp_path: Path, name: str, syntax: str) -> None:
    attributes, options = GRAY[name]
    pixels = ramp().astype(">u2" if syntax == EXPLICIT_BIG else "<u2")
    data = image(pixels, 12, syntax, **attributes)

    assert largest_difference(Picture(data).drawn(), dcmj2pnm(tmp_path, data, *options)) <= ROUNDING


@pytest.mark.parametrize(("kind", "bits"), [("i2", 16), ("i2", 12), ("u1", 8), ("u2", 16)])
def test_every_depth_and_sign_is_drawn_as_dcmtk_draws_it(tmp_path: Path, kind: str, bits: int) -> None:
    data = image(ramp(kind, bits), bits, WindowCenter=50, WindowWidth=150)

    assert largest_difference(Picture(data).drawn(), dcmj2pnm(tmp_path, data, "+Wi", "1")) <= ROUNDING


def test_eight_bits_without_a_window_are_shown_as_they_are() -> None:
    pixels = noise("u1", 7)

    assert largest_difference(Picture(image(pixels, 8)).drawn(), pixels.astype(np.int64)) == 0


def test_padding_is_black_and_has_no_part_in_the_range_of_values() -> None:
    pixels = np.array([[-2000, 0], [500, 1000]], "i2")

    drawn = Picture(image(pixels, 16, PixelPaddingValue=-2000)).drawn()
    white = Picture(
        image(pixels, 16, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1")
    ).drawn()

    assert pixels_of(drawn).tolist() == [[0, 0], [128, 255]]
    assert pixels_of(white).tolist() == [[0, 255], [128, 0]]


def test_a_linear_exact_window_runs_from_edge_to_edge() -> None:
    window = Window(100, 200, "LINEAR_EXACT")

    assert window(np.array([0.0, 50.0, 100.0, 200.0, 300.0])).tolist() == [0, 0.25, 0.5, 1, 1]


@pytest.mark.parametrize("bits", [8, 16])
def test_palette_colours_are_those_that_dcmtk_draws(tmp_path: Path, bits: int) -> None:
    most = (1 << bits) - 1
    tables = {
        name: [(at * factor) % (most + 1) for at in range(256)]
        for name, factor in (("Red", 255), ("Green", 1021), ("Blue", 77))
    }
    attributes: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, table in tables.items():
        attributes[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        words = [entry * (257 if bits == 8 else 1) for entry in table]
        attributes[f"{name}PaletteColorLookupTableData"] = np.array(words, "<u2").tobytes()
    data = image(noise("u1", 8), 8, **attributes)

    assert largest_difference(Picture(data).drawn(), dcmj2pnm(tmp_path, data)) <= ROUNDING


def test_a_segmented_palette_is_written_out() -> None:
    """Red: four equal entries, then a ramp of four, then the first segment again (PS3.3 C.7.9.2)."""
    red = [0, 4, 100 << 8, 100 << 8, 100 << 8, 100 << 8, 1, 4, 200 << 8, 2, 1, 0, 0]
    flat = [0, 1, 0, 1, 11, 0]
    attributes: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, segments in (("Red", red), ("Green", flat), ("Blue", flat)):
        attributes[f"{name}PaletteColorLookupTableDescriptor"] = [12, 0, 16]
        attributes[f"Segmented{name}PaletteColorLookupTableData"] = np.array(segments, "<u2").tobytes()
    pixels = np.arange(12, dtype="u1").reshape(3, 4)

    drawn = pixels_of(Picture(image(pixels, 8, **attributes)).drawn())

    assert drawn[:, :, 0].reshape(-1).tolist() == [100] * 4 + [125, 150, 175, 200] + [100] * 4
    assert drawn[:, :, 1:].sum() == 0


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("planar", [0, 1])
def test_colours_are_those_that_dcmtk_draws(tmp_path: Path, photometric: str, planar: int) -> None:
    pixels = noise("u1", 8, (24, 40, 3))
    arranged = pixels.transpose(2, 0, 1).copy() if planar else pixels
    ds = image_dataset(pixels, 8, PhotometricInterpretation=photometric, PlanarConfiguration=planar)
    ds.PixelData = arranged.tobytes()
    data = part10(ds)

    assert largest_difference(Picture(data).drawn(), dcmj2pnm(tmp_path, data)) <= 2


def test_overlays_lie_where_dcmtk_lays_them(tmp_path: Path) -> None:
    ds = image_dataset(ramp(), 12, WindowCenter=1000, WindowWidth=800)
    bitmap = np.zeros((20, 24), "u1")
    bitmap[4:12, 3:20] = 1
    ds.add_new(0x60000010, "US", 20)
    ds.add_new(0x60000011, "US", 24)
    ds.add_new(0x60000040, "CS", "G")
    ds.add_new(0x60000050, "SS", [-2, 10])
    ds.add_new(0x60000100, "US", 1)
    ds.add_new(0x60000102, "US", 0)
    ds.add_new(0x60003000, "OW", np.packbits(bitmap, bitorder="little").tobytes())
    data = part10(ds)

    drawn = Picture(data).drawn()

    assert largest_difference(drawn, dcmj2pnm(tmp_path, data, "+Wi", "1")) <= ROUNDING
    assert pixels_of(drawn)[2, 13] == 255


def presentation_state(of: Dataset, **attributes: Any) -> bytes:
    """A grayscale state for an image, with an identity presentation LUT unless told otherwise."""
    state = Dataset()
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "SpecificCharacterSet"):
        setattr(state, keyword, getattr(of, keyword))
    state.PatientBirthDate = state.PatientSex = ""
    state.StudyDate = state.StudyTime = state.AccessionNumber = state.StudyID = ""
    state.ReferringPhysicianName = state.Manufacturer = ""
    state.SOPClassUID = "1.2.840.10008.5.1.4.1.1.11.1"
    state.SOPInstanceUID, state.SeriesInstanceUID = f"{ROOT}.77.1", f"{ROOT}.77"
    state.Modality, state.SeriesNumber, state.InstanceNumber = "PR", 7, 1
    state.ContentLabel, state.ContentDescription = "TEST", ""
    state.PresentationCreationDate, state.PresentationCreationTime = "20260301", "0800"
    state.ContentCreatorName = ""
    image_item, series_item = Dataset(), Dataset()
    image_item.ReferencedSOPClassUID = of.SOPClassUID
    image_item.ReferencedSOPInstanceUID = of.SOPInstanceUID
    series_item.SeriesInstanceUID = of.SeriesInstanceUID
    series_item.ReferencedImageSequence = [image_item]
    state.ReferencedSeriesSequence = [series_item]
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner = [1, 1]
    area.DisplayedAreaBottomRightHandCorner = [int(of.Columns), int(of.Rows)]
    area.PresentationSizeMode, area.PresentationPixelAspectRatio = "SCALE TO FIT", [1, 1]
    state.DisplayedAreaSelectionSequence = [area]
    state.PresentationLUTShape = "IDENTITY"
    for keyword, value in attributes.items():
        setattr(state, keyword, value)
    return part10(state)


def voi(center: float, width: float) -> Dataset:
    item = Dataset()
    item.WindowCenter, item.WindowWidth = center, width
    return item


def voi_lut(table: Dataset) -> Dataset:
    item = Dataset()
    item.VOILUTSequence = [table]
    return item


def test_a_presentation_state_is_applied_as_dcmtk_applies_it(tmp_path: Path) -> None:
    ds = image_dataset(ramp(), 12)
    data = part10(ds)
    states = [
        presentation_state(ds, SoftcopyVOILUTSequence=[voi(1500, 700)]),
        presentation_state(ds, SoftcopyVOILUTSequence=[voi(1500, 700)], PresentationLUTShape="INVERSE"),
        presentation_state(ds, SoftcopyVOILUTSequence=[voi_lut(lut(0, square_lut()))]),
    ]
    for state in states:
        drawn = Picture(data).drawn(state=Picture(state))
        assert largest_difference(drawn, dcmp2pgm(tmp_path, data, state)) <= ROUNDING


def test_a_presentation_state_of_a_vendor_is_applied_as_dcmtk_applies_it(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "dicom" / "files" / "weasis-dicom-tools"
    if folder.is_dir():
        data, state = (folder / "imageForPrLUTs.dcm").read_bytes(), (folder / "prLUTs.dcm").read_bytes()
        drawn = Picture(data).drawn(state=Picture(state))
        assert largest_difference(drawn, dcmp2pgm(tmp_path, data, state)) == 0


def test_a_state_turns_cuts_covers_and_draws() -> None:
    ds = image_dataset(np.full((40, 60), 1000, "u2"), 12)
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner = [11, 1], [60, 40]
    line = Dataset()
    line.GraphicAnnotationUnits, line.GraphicDimensions, line.NumberOfGraphicPoints = "PIXEL", 2, 2
    line.GraphicType, line.GraphicFilled, line.GraphicData = "POLYLINE", "N", [20, 10, 50, 10]
    annotation = Dataset()
    annotation.GraphicLayer, annotation.GraphicObjectSequence = "L", [line]
    layer = Dataset()
    layer.GraphicLayer, layer.GraphicLayerOrder = "L", 1
    state = presentation_state(
        ds, DisplayedAreaSelectionSequence=[area], GraphicAnnotationSequence=[annotation],
        GraphicLayerSequence=[layer], ImageRotation=90, ImageHorizontalFlip="N",
        SoftcopyVOILUTSequence=[voi(1000, 1000)], ShutterShape="RECTANGULAR",
        ShutterLeftVerticalEdge=1, ShutterRightVerticalEdge=60, ShutterUpperHorizontalEdge=1,
        ShutterLowerHorizontalEdge=30, ShutterPresentationValue=0,
    )  # fmt: skip

    drawn = pixels_of(Picture(part10(ds)).drawn(state=Picture(state)))

    assert drawn.shape == (50, 40)  # 50 columns of 40 rows, turned by a quarter
    assert (drawn[:, :10] == 0).all()  # the lower rows, covered, came to the left
    assert (drawn[10:38, 30] == 255).all()  # the line of row 10
    assert (drawn[:, 35:] == 128).all()


def test_a_state_of_another_image_is_refused() -> None:
    ds = image_dataset(ramp(), 12)
    state = presentation_state(_other(ds))

    with pytest.raises(NotAPresentationState):
        Picture(part10(ds)).drawn(state=Picture(state))


def _other(ds: Dataset) -> Dataset:
    other = copy.deepcopy(ds)
    other.SOPInstanceUID = f"{ROOT}.99"
    return other


def test_functional_groups_say_how_each_frame_is_shown() -> None:
    ds = image_dataset(np.full((2, 8, 8), 100, "u2").reshape(16, 8), 12, NumberOfFrames=2)
    ds.Rows = 8
    transformation, shared = Dataset(), Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept, transformation.RescaleType = 1, -100, "HU"
    shared.PixelValueTransformationSequence = [transformation]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for center in (0, 1000):
        group = Dataset()
        group.FrameVOILUTSequence = [voi(center, 100)]
        frames.append(group)
    ds.PerFrameFunctionalGroupsSequence = frames
    picture = Picture(part10(ds))

    assert pixels_of(picture.drawn(1))[0, 0] in (128, 129)
    assert pixels_of(picture.drawn(2))[0, 0] == 0


def test_a_viewport_scales_cuts_and_mirrors() -> None:
    pixels = np.zeros((40, 80), "u1")
    pixels[:, 40:] = 200
    picture = Picture(image(pixels, 8))

    def drawn(*viewport: float, enlarge: bool = True) -> Image.Image:
        asked = Viewport(int(viewport[0]), int(viewport[1]), *viewport[2:])
        return picture.drawn(rendering=Rendering(media_type=PNG, viewport=asked, enlarge=enlarge))

    assert drawn(40, 40).size == (40, 20)
    assert drawn(400, 100).size == (200, 100)
    assert drawn(400, 400, enlarge=False).size == (80, 40)
    assert pixels_of(drawn(10, 10, 0, 0, 36, 36)).max() == 0
    assert pixels_of(drawn(10, 10, 44, 0, 36, 36)).min() == 200
    mirrored = pixels_of(drawn(80, 40, 0, 0, -80, 40))
    assert (mirrored[:, 0].min(), mirrored[:, -1].max()) == (200, 0)
    with pytest.raises(InvalidRendering):
        drawn(10, 10, 90, 0, 10, 10)


def test_text_and_watermark_are_seen_and_leave_the_image_recognisable() -> None:
    picture = Picture(image(np.full((300, 400), 60, "u1"), 8, Modality="CT"))
    plain = pixels_of(picture.drawn())

    lettered = pixels_of(
        picture.drawn(rendering=Rendering(media_type=PNG, annotations=("patient", "technique")))
    )
    marked = pixels_of(
        picture.drawn(rendering=Rendering(media_type=PNG, watermark=("患者 张伟", "仅供查看")))
    )

    assert lettered[:60].max() == 255
    assert (lettered[150:] == plain[150:]).all()
    assert 0.02 < (marked != plain).mean() < 0.5
    for quarter in (marked[:150, :200], marked[150:, 200:]):
        assert (quarter != 60).any()


@pytest.mark.parametrize(("media_type", "begin"), [(JPEG, b"\xff\xd8"), (PNG, b"\x89PNG"), (GIF, b"GIF8")])
def test_a_picture_comes_in_the_form_that_was_asked_for(media_type: str, begin: bytes) -> None:
    picture = Picture(image(ramp("u1", 8), 8)).drawn()

    assert encode_picture([picture], Rendering(media_type=media_type)).startswith(begin)


def test_quality_makes_a_jpeg_smaller() -> None:
    picture = Picture(image(noise("u1", 8), 8)).drawn()

    sizes = [len(encode_picture([picture], Rendering(quality=quality))) for quality in (20, 60, 95)]

    assert sizes == sorted(sizes)


@pytest.mark.parametrize("space", ["srgb", "adobergb", "rommrgb"])
def test_a_colour_space_is_embedded_and_shows_the_same_colours(space: str) -> None:
    picture = Image.new("RGB", (8, 8), (200, 60, 30))

    from PIL import ImageCms

    encoded = encode_picture([picture], Rendering(media_type=PNG, icc_profile=space))
    read = Image.open(io.BytesIO(encoded))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(read.info["icc_profile"]))
    back = ImageCms.profileToProfile(read, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert back is not None
    colour = back.getpixel((4, 4))
    assert isinstance(colour, tuple)
    assert all(abs(got - wanted) <= 4 for got, wanted in zip(colour, (200, 60, 30), strict=True))


def test_what_was_rendered_is_kept_sealed_and_found_again(rooms: Rooms, operator: Caller) -> None:
    archive = rooms.archive
    receipt = ingest(archive, operator, io.BytesIO(image(ramp(), 12)))
    stored = find_instance(
        archive, operator, receipt.study_instance_uid, receipt.series_instance_uid, receipt.sop_instance_uid
    )

    first_time = render_frame(archive, stored, 1, Rendering())
    again = render_frame(archive, stored, 1, Rendering())
    other = render_frame(archive, stored, 1, Rendering(quality=30))

    assert first_time == again
    assert first_time.tag != other.tag
    kept = [path for path in (rooms.settings.data_dir / "cache").rglob("*") if path.is_file()]
    assert len(kept) == 2
    assert not any(b"JFIF" in path.read_bytes() for path in kept)


def test_the_cache_stays_within_its_limit(rooms: Rooms) -> None:
    from archive.render_cache import RenderCache

    cache = RenderCache(rooms.settings.data_dir / "small", rooms.keys, 160_000)
    for number in range(100):
        cache.put(f"{number:040x}", bytes(10_000))
    cache.prune()

    kept = [path for path in (rooms.settings.data_dir / "small").rglob("*") if path.is_file()]
    assert 1 <= len(kept) <= 16
    assert cache.get(f"{99:040x}") == bytes(10_000)


def test_many_frames_become_an_animation(rooms: Rooms, operator: Caller) -> None:
    pixels = np.concatenate([np.full((8, 8), level, "u1") for level in (0, 100, 200)])
    ds = image_dataset(pixels, 8, NumberOfFrames=3)
    ds.Rows = 8
    receipt = ingest(rooms.archive, operator, io.BytesIO(part10(ds)))
    stored = find_instance(
        rooms.archive, operator, receipt.study_instance_uid, receipt.series_instance_uid,
        receipt.sop_instance_uid,
    )  # fmt: skip

    animated = Image.open(
        io.BytesIO(render_frames(rooms.archive, stored, (1, 2, 3), Rendering(media_type=GIF)).data)
    )

    assert getattr(animated, "n_frames", 1) == 3


OTHERWISE = {  # what dcmtk draws otherwise than the standard says, or than the stream does
    "CT1_RLE": "padding counted in the range of values",
    "CT1_UNC": "padding counted in the range of values",
    "GH195": "YCbCr although labelled RGB", "example-mg": "YCbCr although labelled RGB",
    "example2": "YCbCr although labelled RGB",
    "GH610": "a slope of 6e-8 lost to rounding",
    "seg_": "single bits at half brightness", "liver": "single bits at half brightness",
    "rtdose": "words of 32 bits in big endian", "fragmented_no_bot": "one frame in fragments, no table",
}  # fmt: skip


def test_real_objects_are_drawn_as_dcmtk_draws_them(shared_data: Path, tmp_path: Path) -> None:
    """Every real image that dcmj2pnm can open itself, with the window that we take."""
    compared, apart = 0, {}
    for path in sorted((shared_data / "dicom" / "files").rglob("*")):
        if not path.is_file() or any(part in path.name for part in OTHERWISE):
            continue
        try:
            picture = Picture(path.read_bytes())
            pixel = image_pixel_of(picture.attributes)
            options = _window_options(picture, pixel.samples)
            drawn = picture.drawn()
            reference = dcmj2pnm(tmp_path, picture.part10, *options)
        except (CloudfilmError, subprocess.CalledProcessError, FileNotFoundError, NotPart10, NotAnImage):
            continue
        compared += 1
        difference = largest_difference(drawn, reference)
        if difference > 2:
            apart[path.name] = difference
    assert apart == {}
    assert compared > 50 or not (shared_data / "dicom").is_dir()


def _window_options(picture: Picture, samples: int) -> tuple[str, ...]:
    attributes = picture.attributes
    if samples > 1 or first(attributes, "00280004") == "PALETTE COLOR":
        return ()
    center, width = first(attributes, "00281050"), first(attributes, "00281051")
    if center is not None and width is not None and width > 0:
        sigmoid = first(attributes, "00281056") == "SIGMOID"
        return ("+Ww", str(center), str(width), *(("+Wfs",) if sigmoid else ()))
    if "00283010" in attributes:
        return ("+Wl", "1")
    pixel = image_pixel_of(attributes)
    rescaled = first(attributes, "00281053") not in (None, 1.0, 1) or "00283000" in attributes
    return ("-W",) if pixel.bits_stored <= 8 and not rescaled else ("+Wm",)
