"""Whether a code is in a value set: the plain answer that validation asks for."""

from terminology.catalogue import Catalogue
from terminology.compose import Composer


def has_code(catalogue: Catalogue, canonical: str, system: str, code: str) -> bool | None:
    """True or false; None when only a fragment of the code system is here. Raises DefinitionNotFound or
    InvalidValueSet.

    system: empty for a plain code, which is looked for in every system of the value set.
    """
    composer = Composer(catalogue)
    value_set = catalogue.value_set(canonical)
    includes = (value_set.get("compose") or {}).get("include") or ()
    named = [str(each["system"]) for each in includes if each.get("system")]
    if system and includes and len(named) == len(includes) and system not in named:
        return False
    systems = [system] if system else named
    is_fragment = False
    for url in dict.fromkeys(systems):
        code_system = catalogue.code_system(url)
        concept = code_system.find(code)
        if concept is not None and composer.contains(value_set, code_system, concept):
            return True
        is_fragment = is_fragment or (concept is None and code_system.content != "complete")
    return None if is_fragment else False
