"""UCUM units that a quantity may be compared in: a unit as a factor and a canonical unit.

Metric units with prefixes, times, and quotients or products of them (`mg/dL`, `mm[Hg]`, `10*9/L`): what
laboratories and imaging write. A unit that is not understood is compared as it is written. UCUM 2.1, sections
4 and 5.
"""

import re
from functools import lru_cache

UCUM = "http://unitsofmeasure.org"

PREFIXES = {
    "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "h": 1e2, "da": 1e1, "d": 1e-1, "c": 1e-2, "m": 1e-3, "u": 1e-6,
    "n": 1e-9, "p": 1e-12, "f": 1e-15,
}  # fmt: skip

METRIC = {  # unit: factor, and dimensions with their exponents
    "g": (1.0, {"g": 1}),
    "m": (1.0, {"m": 1}),
    "s": (1.0, {"s": 1}),
    "L": (1e-3, {"m": 3}),
    "l": (1e-3, {"m": 3}),
    "mol": (1.0, {"mol": 1}),
    "eq": (1.0, {"mol": 1}),
    "Hz": (1.0, {"s": -1}),
    "Bq": (1.0, {"s": -1}),
    "Pa": (1e3, {"g": 1, "m": -1, "s": -2}),
    "N": (1e3, {"g": 1, "m": 1, "s": -2}),
    "J": (1e3, {"g": 1, "m": 2, "s": -2}),
    "W": (1e3, {"g": 1, "m": 2, "s": -3}),
    "Gy": (1.0, {"m": 2, "s": -2}),
    "Sv": (1.0, {"m": 2, "s": -2}),
    "cal": (4184.0, {"g": 1, "m": 2, "s": -2}),
    "m[Hg]": (133322000.0, {"g": 1, "m": -1, "s": -2}),
    "U": (1e-6 / 60, {"mol": 1, "s": -1}),
    "[iU]": (1.0, {"[iU]": 1}),
    "[IU]": (1.0, {"[iU]": 1}),
    "K": (1.0, {"K": 1}),
}

OTHER: dict[str, tuple[float, dict[str, int]]] = {
    "min": (60.0, {"s": 1}),
    "h": (3600.0, {"s": 1}),
    "d": (86400.0, {"s": 1}),
    "wk": (604800.0, {"s": 1}),
    "mo": (2629800.0, {"s": 1}),
    "a": (31557600.0, {"s": 1}),
    "%": (1e-2, {}),
    "1": (1.0, {}),
    "10*": (10.0, {}),
    "[in_i]": (0.0254, {"m": 1}),
    "[ft_i]": (0.3048, {"m": 1}),
    "[lb_av]": (453.59237, {"g": 1}),
    "[oz_av]": (28.349523125, {"g": 1}),
}

COMPONENT = re.compile(r"(10\*|10\^|.+?)([+-]?\d{1,2})?")


@lru_cache(maxsize=4096)
def canonical_unit(code: str) -> tuple[float, str] | None:
    """The factor to a canonical unit and its name: `mg` is (0.001, `g`). None for a unit not understood."""
    factor, dimensions = 1.0, dict[str, int]()
    plain = re.sub(r"\{[^{}]*\}", "", code)  # annotations mean nothing (UCUM 6)
    if not plain or len(plain) > 64:
        return (1.0, "1") if code.startswith("{") else None
    sign = 1
    for part in re.split(r"([./])", plain):
        if part in (".", "/"):
            sign = -1 if part == "/" else 1
            continue
        if not part:
            continue
        found = _component(part)
        if found is None:
            return None
        factor *= found[0] ** sign
        for name, exponent in found[1].items():
            dimensions[name] = dimensions.get(name, 0) + sign * exponent
    name = ".".join(f"{name}{exponent}" for name, exponent in sorted(dimensions.items()) if exponent)
    return factor, name or "1"


def _component(text: str) -> tuple[float, dict[str, int]] | None:
    match = COMPONENT.fullmatch(text)
    if text in OTHER:
        unit, exponent = OTHER[text], 1
    elif match is None:
        return None
    else:
        named = _named(match[1].replace("10^", "10*"))
        if named is None:
            return None
        unit, exponent = named, int(match[2] or 1)
    return unit[0] ** exponent, {name: each * exponent for name, each in unit[1].items()}


def _named(name: str) -> tuple[float, dict[str, int]] | None:
    if name in OTHER:
        return OTHER[name]
    for length in (0, 1, 2):
        prefix, unit = name[:length], name[length:]
        if prefix in PREFIXES and unit in METRIC:
            factor, dimensions = METRIC[unit]
            return PREFIXES[prefix] * factor, dimensions
    return None
