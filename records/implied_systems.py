"""The code system that an element of type `code` has without saying so: its required value set names it.

A search may write it (`gender=http://hl7.org/fhir/administrative-gender|female`); the index has the code
alone.
Standards: R4 3.1.1.4.10 (token), 4.1.4 (`code`).
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from records.structure import codes_of_value_sets, shape_of

BOOLEANS = frozenset({"true", "false"})
OF_BOOLEANS = {
    "http://hl7.org/fhir/special-values": BOOLEANS,  # as R4's page on search has it
    "http://terminology.hl7.org/CodeSystem/special-values": BOOLEANS,  # as its terminology has it
}


@lru_cache(maxsize=4096)
def implied_systems(resource_type: str, expression: str) -> Mapping[str, frozenset[str]]:
    """The codes by their system, when all that an expression leads to are elements of type `code` or
    `boolean`; nothing when some of it says its system itself."""
    found: dict[str, frozenset[str]] = {}
    for alternative in expression.split("|"):
        path = alternative.strip()
        if not path.startswith(f"{resource_type}."):
            continue  # many parameters are written for several types at once
        systems = _at(resource_type, path)
        if systems is None:
            return {}
        for system, codes in systems.items():
            found[system] = found.get(system, frozenset()) | codes
    return found


def _at(resource_type: str, path: str) -> Mapping[str, frozenset[str]] | None:
    """The systems at one path; None where no code or boolean stands, or the path is not plain steps."""
    if not re.fullmatch(r"\w+(\.\w+)+", path):
        return None
    type_, binding = resource_type, ""
    for name in path.split(".")[1:]:
        element = shape_of(type_).elements.get(name)
        if element is None:
            return None
        type_, binding = element.type, element.binding
    if type_ == "boolean":
        return OF_BOOLEANS
    return codes_of_value_sets().get(binding, {}) if type_ == "code" else None
