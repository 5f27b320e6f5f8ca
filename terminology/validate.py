"""$validate-code on value sets and code systems: is this code right here, and what is wrong with it if not.

R4 ValueSet-validate-code and CodeSystem-validate-code, with the `issues` of the terminology ecosystem, so
that a validator that asks can show what is wrong and where.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from kernel.errors import CloudfilmError, Kind
from records.indexing import fold
from terminology.answers import parameters, part
from terminology.catalogue import Catalogue, DefinitionNotFound, Document, VersionDiffers
from terminology.code_system import CodeSystem
from terminology.compose import Composer, InvalidValueSet, TooCostly
from terminology.concept import Concept, matches_version
from terminology.expand import standing

ISSUE_TYPE = "http://hl7.org/fhir/tools/CodeSystem/tx-issue-type"
MESSAGE_ID = "http://hl7.org/fhir/StructureDefinition/operationoutcome-message-id"


class NothingToValidate(CloudfilmError):
    """Neither a code nor a coding nor a concept was given, or a code without its system."""

    kind = Kind.INVALID

    def __init__(self) -> None:
        super().__init__("Give code and system, coding, or codeableConcept.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be validated: codings, and the form that they came in."""

    codings: tuple[dict[str, Any], ...]
    form: str = "code"  # code, coding or codeableConcept
    concept: dict[str, Any] | None = None  # the CodeableConcept as it came
    languages: tuple[str, ...] = ()
    abstract: bool = True  # whether a code for grouping may stand here
    active_only: bool = False
    infer_system: bool = False
    lenient_display: bool = False  # a wrong display is warned of, not refused
    membership_only: bool = False

    def place(self, at: int, element: str) -> str:
        """Where in the input something stands, as FHIRPath."""
        if self.form == "code":
            return element
        if self.form == "coding":
            return f"Coding.{element}" if element else "Coding"
        return f"CodeableConcept.coding[{at}]" + (f".{element}" if element else "")


@dataclass(slots=True)
class Findings:
    """What was found wrong, and what the code means."""

    issues: list[dict[str, Any]] = field(default_factory=list)
    unknown_systems: list[str] = field(default_factory=list)

    def add(
        self, severity: str, code: str, type_: str, text: str, place: str = "", message_id: str = ""
    ) -> None:
        """One issue."""
        issue: dict[str, Any] = {"severity": severity, "code": code}
        if message_id:
            issue["extension"] = [{"url": MESSAGE_ID, "valueString": message_id}]
        issue["details"] = {"coding": [{"system": ISSUE_TYPE, "code": type_}], "text": text}
        if place:
            issue["location"] = [place]
            issue["expression"] = [place]
        self.issues.append(issue)

    @property
    def is_good(self) -> bool:
        """Whether there is no error."""
        return not any(each["severity"] == "error" for each in self.issues)

    def message(self) -> str:
        """Every error in words, else every warning, else what else there is to say."""
        for severity in ("error", "warning", "information"):
            texts = {each["details"]["text"] for each in self.issues if each["severity"] == severity}
            if texts:
                return "; ".join(sorted(texts))
        return ""


@dataclass(frozen=True, slots=True)
class Understood:
    """A coding that its code system knows."""

    system: CodeSystem
    concept: Concept
    is_member: bool
    written: str  # the code as it came


def validate_in_value_set(catalogue: Catalogue, value_set: Document, asked: Asked) -> Document:
    """The Parameters that ValueSet/$validate-code answers."""
    composer = Composer(catalogue)
    named = f"{value_set.get('url', '')}|{value_set.get('version', '')}".rstrip("|")
    check = _Check(catalogue, asked, composer, value_set, named)
    return check.answer()


def validate_in_code_system(catalogue: Catalogue, url: str, version: str, asked: Asked) -> Document:
    """The Parameters that CodeSystem/$validate-code answers."""
    codings = tuple(
        {"system": url, **({"version": version} if version else {}), **each} for each in asked.codings
    )
    check = _Check(catalogue, _with(asked, codings), Composer(catalogue), None, "")
    return check.answer()


def _with(asked: Asked, codings: tuple[dict[str, Any], ...]) -> Asked:
    return replace(asked, codings=codings)


class _Check:
    def __init__(
        self, catalogue: Catalogue, asked: Asked, composer: Composer, value_set: Document | None, named: str
    ) -> None:
        if not asked.codings:
            raise NothingToValidate
        self.catalogue = catalogue
        self.asked = asked
        self.composer = composer
        self.value_set = value_set
        self.named = named
        self.found = Findings()
        self.problems: list[str] = []

    def answer(self) -> Document:
        self.catalogue.require_supplements()
        if self.value_set is not None:
            self.composer.prepare(self.value_set)
        understood = [self._coding(at, coding) for at, coding in enumerate(self.asked.codings)]
        known = [each for each in understood if each is not None]
        members = [each for each in known if each.is_member]
        if self.value_set is not None and self.asked.form == "codeableConcept" and not members:
            self.found.add(
                "error", "code-invalid", "not-in-vs",
                f"No valid coding was found for the value set '{self.named}'",
                message_id="TX_GENERAL_CC_ERROR_MESSAGE",
            )  # fmt: skip
        chosen = members[0] if members else known[0] if known else None
        self._warn_of_standing()
        return self._parameters(chosen)

    def _coding(self, at: int, coding: dict[str, Any]) -> Understood | None:
        """Look at one coding; what is wrong with it is noted."""
        url, code = str(coding.get("system", "")), str(coding.get("code", ""))
        version = str(coding.get("version", ""))
        if not url:
            url = self._infer(at, code)
            if not url:
                return None
        system = self._system(at, url, version)
        if system is None:
            self._not_in(at, url, version, code)
            return None
        concept = system.find(code)
        if concept is None:
            return self._unknown_code(at, system, version, code)
        if concept.code != code:
            self.found.add(
                "information", "business-rule", "code-rule",
                f"The code '{code}' differs from the correct code '{concept.code}' by case. "
                "Although the code "
                f"system '{system.canonical}' is case insensitive, implementers are strongly "
                "encouraged to use the "
                "correct case anyway",
                self.asked.place(at, "code"), "CODE_CASE_DIFFERENCE",
            )  # fmt: skip
        is_member = self._is_member(at, system, concept, version, code)
        self._abstract(at, system, concept)
        self._inactive(at, system, concept, code)
        if coding.get("display") and not self.asked.membership_only:
            self._display(at, system, concept, str(coding["display"]))
        return Understood(system, concept, is_member, code)

    def _infer(self, at: int, code: str) -> str:
        """The one system of the value set that knows a code without its system."""
        if self.value_set is None or not (self.asked.form == "code" or self.asked.infer_system):
            self.found.add(
                "warning", "invalid", "invalid-data",
                "Coding has no system. A code with no system has no defined meaning, and it "
                "cannot be validated. "
                "A system should be provided",
                self.asked.place(at, ""), "Coding_has_no_system__cannot_validate",
            )  # fmt: skip
            self._not_in(at, "", "", code)
            return ""
        found: list[str] = []
        try:
            for include in (self.value_set.get("compose") or {}).get("include") or ():
                url = str(include.get("system", ""))
                if url and url not in found:
                    system = self.catalogue.code_system(url, str(include.get("version", "")))
                    concept = system.find(code)
                    if concept and self.composer.contains(self.value_set, system, concept):
                        found.append(url)
            if not found:
                found = sorted(
                    {
                        each.system.url
                        for each in self.composer.members(self.value_set)
                        if each.concept.code == code
                    }
                )
        except (DefinitionNotFound, InvalidValueSet, TooCostly):
            found = []
        if len(found) == 1:
            return found[0]
        reason = (
            f"The System URI could not be determined for the code '{code}' in the ValueSet '{self.named}'"
        )
        message_id = "UNABLE_TO_INFER_CODESYSTEM"
        if found:
            reason += f": value set expansion has multiple matches: {found}"
            message_id = "Unable_to_resolve_system__value_set_has_multiple_matches"
        self._not_in(at, "", "", code)
        self.found.add("error", "not-found", "cannot-infer", reason, "code", message_id)
        return ""

    def _system(self, at: int, url: str, version: str) -> CodeSystem | None:
        place = self.asked.place(at, "system")
        pinned = self._pinned(url)
        try:
            if version and pinned and not self._agree(at, url, version, pinned):
                return self._try(url, pinned) or None
            if not version and not pinned:
                chosen = self._of_several(url, str(self.asked.codings[at].get("code", "")))
                if chosen is not None:
                    return chosen
            return self.catalogue.code_system(url, version or pinned)
        except VersionDiffers as differs:
            self.found.add(
                "error", "exception", "version-error", str(differs), self.asked.place(at, "version"),
                "VALUESET_VERSION_CHECK",
            )  # fmt: skip
            return None
        except DefinitionNotFound as missing:
            if (not missing.known and missing.version == "") or not self.catalogue.versions(
                "CodeSystem", url
            ):
                self._unknown_system(url, place)
            else:
                known = " or ".join(sorted(missing.known)) if missing.known else ""
                self.found.add(
                    "error", "not-found", "not-found",
                    f"A definition for CodeSystem '{url}' version '{missing.version}' could not "
                    "be found, so the "
                    f"code cannot be validated. Valid versions: {known}",
                    place, "UNKNOWN_CODESYSTEM_VERSION",
                )  # fmt: skip
                self.found.unknown_systems.append(f"{url}|{missing.version}")
            return None

    def _try(self, url: str, version: str) -> CodeSystem | None:
        try:
            return self.catalogue.code_system(url, version)
        except (DefinitionNotFound, VersionDiffers):
            return None

    def _unknown_system(self, url: str, place: str) -> None:
        if self.catalogue.supplement(url) is not None and _is_supplement(self.catalogue.supplement(url)):
            self.found.add(
                "error", "invalid", "invalid-data",
                f"CodeSystem {url} is a supplement, so can't be used as a value in Coding.system",
                place, "CODESYSTEM_CS_NO_SUPPLEMENT",
            )  # fmt: skip
            return
        if self._is_value_set(url):
            self.found.add(
                "error", "invalid", "invalid-data",
                f"The Coding references a value set, not a code system ('{url}')",
                place, "Terminology_TX_System_ValueSet2",
            )  # fmt: skip
            self.found.unknown_systems.append(url)
            return
        if ":" not in url:
            self.found.add(
                "error", "invalid", "invalid-data",
                "Coding.system must be an absolute reference, not a local reference",
                place, "Terminology_TX_System_Relative",
            )  # fmt: skip
        self.found.add(
            "error", "not-found", "not-found",
            f"A definition for CodeSystem '{url}' could not be found, so the code cannot be validated",
            place, "UNKNOWN_CODESYSTEM",
        )  # fmt: skip
        self.found.unknown_systems.append(url)

    def _is_value_set(self, url: str) -> bool:
        try:
            self.catalogue.value_set(url)
        except DefinitionNotFound:
            return False
        return True

    def _pinned(self, url: str) -> str:
        """The version that the value set names for a system, when there is one only."""
        forced = self.catalogue.forced_versions.get(url)
        if forced:
            return forced
        includes = ((self.value_set or {}).get("compose") or {}).get("include") or ()
        versions = {str(each.get("version", "")) for each in includes if each.get("system") == url}
        return versions.pop() if len(versions) == 1 else ""

    def _of_several(self, url: str, code: str) -> CodeSystem | None:
        """Of several versions that the value set names, the one by which the code is a member."""
        includes = ((self.value_set or {}).get("compose") or {}).get("include") or ()
        named = [str(each.get("version", "")) for each in includes if each.get("system") == url]
        if self.value_set is None or len(set(named)) < 2:
            return None
        for version in dict.fromkeys(named):
            system = self._try(url, version)
            concept = system.find(code) if system else None
            if system and concept and self.composer.contains(self.value_set, system, concept):
                return system
        return None

    def _agree(self, at: int, url: str, version: str, pinned: str) -> bool:
        """Whether the coding's version is the one that the value set names."""
        if matches_version(version, pinned) or matches_version(pinned, version):
            return True
        self.found.add(
            "error", "invalid", "vs-invalid",
            f"The code system '{url}' version '{pinned}' in the ValueSet include is different to "
            "the one in the "
            f"value ('{version}')",
            self.asked.place(at, "version"), "VALUESET_VALUE_MISMATCH",
        )  # fmt: skip
        if not any(matches_version(each, version) for each in self.catalogue.versions("CodeSystem", url)):
            known = " or ".join(sorted(self.catalogue.versions("CodeSystem", url)))
            self.found.add(
                "error", "not-found", "not-found",
                f"A definition for CodeSystem '{url}' version '{version}' could not be found, so "
                "the code cannot be "
                f"validated. Valid versions: {known}",
                self.asked.place(at, "system"), "UNKNOWN_CODESYSTEM_VERSION",
            )  # fmt: skip
            self.found.unknown_systems.append(f"{url}|{version}")
        return False

    def _unknown_code(self, at: int, system: CodeSystem, version: str, code: str) -> Understood | None:
        text = f"Unknown code '{code}' in the CodeSystem '{system.url}'"
        if system.version:
            text += f" version '{system.version}'"
        place = self.asked.place(at, "code")
        if system.content in ("fragment", "not-present", "example"):
            self.found.add(
                "warning", "code-invalid", "invalid-code",
                f"{text} - note that the code system is labeled as a {system.content}, so the "
                "code may be valid in "
                "some other fragment",
                place, "UNKNOWN_CODE_IN_FRAGMENT",
            )  # fmt: skip
            concept = Concept(code)
            return Understood(system, concept, self._is_member(at, system, concept, version, code), code)
        self._not_in(at, system.url, version, code)
        self.found.add("error", "code-invalid", "invalid-code", text, place, "Unknown_Code_in_Version")
        return None

    def _is_member(self, at: int, system: CodeSystem, concept: Concept, version: str, code: str) -> bool:
        if self.value_set is None:
            return True
        try:
            is_member = self.composer.contains(self.value_set, system, concept)
        except DefinitionNotFound as missing:
            self.problems.append(str(missing))
            is_valueset = missing.what == "ValueSet"
            unresolved = f"A definition for the value Set '{missing.url}' could not be found"
            self.found.add(
                "error", "not-found", "not-found",
                unresolved if is_valueset else str(missing),
                message_id="Unable_to_resolve_value_Set_" if is_valueset else "UNKNOWN_CODESYSTEM",
            )  # fmt: skip
            self.found.add(
                "warning", "not-found", "vs-invalid",
                f"Unable to check whether the code is in the value set '{self.named}' because the value set "
                f"{missing.url} was not found",
                message_id="UNABLE_TO_CHECK_IF_THE_PROVIDED_CODES_ARE_IN_THE_VALUE_SET_VS",
            )  # fmt: skip
            return False
        if is_member and self.asked.active_only and concept.inactive:
            is_member = False
        if not is_member:
            self._not_in(at, system.url, version, code)
        return is_member

    def _not_in(self, at: int, url: str, version: str, code: str) -> None:
        if self.value_set is None:
            return
        one_of_many = self.asked.form == "codeableConcept"
        shown = f"{url}|{version}#{code}" if version else f"{url}#{code}" if url else f"#{code}"
        self.found.add(
            "information" if one_of_many else "error",
            "code-invalid",
            "this-code-not-in-vs" if one_of_many else "not-in-vs",
            f"The provided code '{shown}' was not found in the value set '{self.named}'",
            self.asked.place(at, "code"),
            "None_of_the_provided_codes_are_in_the_value_set_one",
        )

    def _abstract(self, at: int, system: CodeSystem, concept: Concept) -> None:
        if concept.abstract and not self.asked.abstract:
            self.found.add(
                "error", "business-rule", "code-rule",
                f"Code '{system.url}#{concept.code}' is abstract, and not allowed in this context",
                self.asked.place(at, "code"), "ABSTRACT_CODE_NOT_ALLOWED",
            )  # fmt: skip

    def _inactive(self, at: int, system: CodeSystem, concept: Concept, code: str) -> None:
        if concept.inactive:
            self.found.add(
                "warning", "business-rule", "code-comment",
                f"The concept '{code}' has a status of {concept.status or 'inactive'} and its "
                "use should be reviewed",
                self.asked.place(at, "code"), "INACTIVE_CONCEPT_FOUND",
            )  # fmt: skip
        elif concept.status == "deprecated":
            self.found.add(
                "warning", "business-rule", "code-comment",
                f"The concept '{code}' is deprecated and its use should be reviewed",
                self.asked.place(at, "code"), "DEPRECATED_CONCEPT_FOUND",
            )  # fmt: skip

    def _display(self, at: int, system: CodeSystem, concept: Concept, display: str) -> None:
        names = self._names(system, concept)
        if not names or display in names:
            return
        if " ".join(fold(display).split()) in {" ".join(fold(name).split()) for name in names} and (
            not system.is_case_sensitive or display.lower() in {name.lower() for name in names}
        ):
            return
        languages = self.asked.languages
        if languages and display in (concept.display, *(each.value for each in concept.designations)):
            self.found.add(
                "information", "invalid", "invalid-display",
                "There are no valid display names found for the code "
                f"{system.url}#{concept.code} for language(s) '{','.join(languages)}'. "
                f"The display is '{display}' which is a valid display for the default language",
                self.asked.place(at, "display"), "NO_VALID_DISPLAY_FOUND_NONE_FOR_LANG_OK",
            )  # fmt: skip
            return
        speaks = languages and any(name for name in names if name != concept.display)
        severity = "warning" if self.asked.lenient_display else "error"
        shown = " or ".join(f"'{name}'" for name in names)
        language = f" (for the language(s) '{','.join(languages) or '--'}')"
        squeezed = {" ".join(name.split()) for name in names}
        message_id = "Display_Name_for__should_be_one_of__instead_of"
        if " ".join(display.split()) in squeezed:
            message_id = "Display_Name_WS_for__should_be_one_of__instead_of"
        many = f"one of {len(names)} choices: {shown}" if len(names) > 1 else shown
        wrong = f"Wrong Display Name '{display}' for {system.url}#{concept.code}."
        text = f"{wrong} Valid display is {many}{language}"
        if languages and not speaks and system.language and not _speaks(system.language, languages):
            text = f"{wrong} {_no_display(concept, languages)}"
            message_id = "NO_VALID_DISPLAY_FOUND_NONE_FOR_LANG_ERR"
        self.found.add(
            severity, "invalid", "invalid-display", text, self.asked.place(at, "display"), message_id
        )

    def _names(self, system: CodeSystem, concept: Concept) -> list[str]:
        """What the concept may be called: in the languages asked for, else by any of its names."""
        names = [concept.display] if concept.display else []
        languages = self.asked.languages
        if not languages:
            names += [each.value for each in concept.designations]
        else:
            named = [each.value for each in concept.designations if _speaks(each.language, languages)]
            if named and not _speaks(system.language, languages):
                names = []
            names += named
        if self.value_set is not None:
            for include in (self.value_set.get("compose") or {}).get("include") or ():
                for each in include.get("concept") or ():
                    if (
                        include.get("system") == system.url
                        and each.get("code") == concept.code
                        and each.get("display")
                    ):
                        names.append(str(each["display"]))
        return list(dict.fromkeys(names))

    def _warn_of_standing(self) -> None:
        """A definition that is a draft, experimental, deprecated or withdrawn."""
        documents: list[tuple[str, Document, str]] = []
        if self.value_set is not None:
            documents.append((self.named, self.value_set, "ValueSet"))
        documents += [
            (canonical, document, "ValueSet") for canonical, document in self.composer.used.value_sets.items()
        ]
        for at, coding in enumerate(self.asked.codings):
            system = self._try(str(coding.get("system", "")), str(coding.get("version", "")))
            if system is not None and at == 0:
                documents.append((system.canonical, system.header, "CodeSystem"))
        for canonical, document, what in documents:
            warned = standing(document)
            if warned in ("deprecated", "withdrawn"):
                self.found.add(
                    "information", "business-rule", "status-check",
                    f"Reference to {warned} {what} {canonical}", message_id=f"MSG_{warned.upper()}",
                )  # fmt: skip

    def _parameters(self, chosen: Understood | None) -> Document:
        found: list[dict[str, Any] | None] = [part("result", "Boolean", self.found.is_good)]
        first = self.asked.codings[0]
        code = chosen.written if chosen else str(first.get("code", ""))
        system = chosen.system.url if chosen else str(first.get("system", ""))
        if self.asked.form != "codeableConcept" or chosen:
            found.append(part("code", "Code", code))
            found.append(part("system", "Uri", system) if system else None)
        if chosen:
            if chosen.concept.code != code:
                found.append(part("normalized-code", "Code", chosen.concept.code))
            if chosen.system.version:
                found.append(part("version", "String", chosen.system.version))
            display = chosen.concept.name_in(self.asked.languages, chosen.system.language)
            found.append(part("display", "String", display) if display else None)
            if chosen.concept.inactive:
                found.append(part("inactive", "Boolean", True))
                if chosen.concept.status:
                    found.append(part("status", "String", chosen.concept.status))
        elif system and self.asked.form != "codeableConcept":
            known = self._try(system, str(first.get("version", "")) or self._pinned(system))
            if known is not None and known.version:
                found.append(part("version", "String", known.version))
        if self.asked.concept is not None:
            found.append(part("codeableConcept", "CodeableConcept", self.asked.concept))
        message = self.found.message()
        found.append(part("message", "String", message) if message else None)
        for unknown in dict.fromkeys(self.found.unknown_systems):
            found.append(part("x-caused-by-unknown-system", "Canonical", unknown))
        if self.found.issues:
            outcome = {"resourceType": "OperationOutcome", "issue": self.found.issues}
            found.append({"name": "issues", "resource": outcome})
        return parameters(*found)


def _is_supplement(document: Document | None) -> bool:
    return (document or {}).get("content") == "supplement"


def _speaks(language: str, wanted: tuple[str, ...]) -> bool:
    have = language.lower()
    return any(have == each.lower() or have.startswith(each.lower() + "-") for each in wanted)


def _no_display(concept: Concept, languages: tuple[str, ...]) -> str:
    return (
        f"There are no valid display names found for language(s) '{','.join(languages)}'. "
        f"Default display is '{concept.display}'"
    )
