"""Rendering parameters of rendered resources (PS3.18 8.3.5.1): the query string becomes a `Rendering`."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from archive.grayscale import FUNCTIONS, Window
from archive.render import ANNOTATIONS, LARGEST_SIDE, InvalidRendering, Rendering, Viewport

Value = TypeVar("Value")

FUNCTION_NAMES = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
PROFILES = ("no", "yes", "srgb", "adobergb", "rommrgb")


def rendering_of(arguments: Mapping[str, str], media_type: str) -> Rendering:
    """How a rendered resource is wanted. Raises InvalidRendering; parameters it does not know are ignored."""
    return Rendering(
        media_type=media_type,
        window=_given(arguments, "window", parse_window),
        viewport=_given(arguments, "viewport", parse_viewport),
        quality=_given(arguments, "quality", parse_quality) or 90,
        annotations=_given(arguments, "annotation", parse_annotations) or (),
        icc_profile=_given(arguments, "iccprofile", parse_profile) or "",
    )


def _given(arguments: Mapping[str, str], name: str, parse: Callable[[str], Value]) -> Value | None:
    text = arguments.get(name, "").strip()
    return parse(text) if text else None


def _numbers(parameter: str, parts: list[str], form: str) -> list[float | None]:
    try:
        numbers = [float(part) if part.strip() else None for part in parts]
    except ValueError:
        raise InvalidRendering(parameter, form) from None
    if any(number is not None and not -1e9 < number < 1e9 for number in numbers):
        raise InvalidRendering(parameter, form)
    return numbers


def parse_window(text: str) -> Window:
    """`center,width` or `center,width,function` (PS3.18 8.3.5.1.4). Raises InvalidRendering."""
    form = f"write center,width and one of {', '.join(FUNCTION_NAMES)}"
    parts = text.split(",")
    if len(parts) not in (2, 3):
        raise InvalidRendering("window", form)
    center, width = _numbers("window", parts[:2], form)
    name = parts[2].strip().lower().replace("_", "-") if len(parts) == 3 else "linear"
    function = FUNCTION_NAMES.get(name, "")
    if center is None or width is None or width <= 0 or function not in FUNCTIONS:
        raise InvalidRendering("window", form)
    if function == "LINEAR" and width < 1:
        raise InvalidRendering("window", "a linear window is at least 1 wide")
    return Window(center, width, function)


def parse_viewport(text: str) -> Viewport:
    """`vw,vh` or `vw,vh,sx,sy,sw,sh`, any of the last four left out (PS3.18 8.3.5.1.3)."""
    form = f"write width,height[,left,top,width,height], at most {LARGEST_SIDE}"
    parts = text.split(",")
    if len(parts) not in (2, 6):
        raise InvalidRendering("viewport", form)
    width, height, *region = _numbers("viewport", parts, form)
    if width is None or height is None or not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise InvalidRendering("viewport", form)
    if not region:
        return Viewport(int(width), int(height))
    left, top, region_width, region_height = region
    if 0 in (region_width, region_height):
        raise InvalidRendering("viewport", form)
    return Viewport(int(width), int(height), left or 0.0, top or 0.0, region_width, region_height)


def parse_quality(text: str) -> int:
    """1 to 100 (PS3.18 8.3.5.1.2)."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 100:
        raise InvalidRendering("quality", "write a whole number from 1 to 100")
    return int(text)


def parse_annotations(text: str) -> tuple[str, ...]:
    """`patient`, `technique` or both (PS3.18 8.3.5.1.1); others are ignored, as the standard has it."""
    return tuple(name for name in (part.strip() for part in text.split(",")) if name in ANNOTATIONS)


def parse_profile(text: str) -> str:
    """One of the profiles of PS3.18 8.3.5.1.5."""
    if text.lower() not in PROFILES:
        raise InvalidRendering("iccprofile", f"write one of {', '.join(PROFILES)}")
    return text.lower()
