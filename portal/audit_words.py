"""What the audit trail says, in words for people; the trail itself keeps codes, as `read ImagingStudy`."""

from portal.catalogue import language, texts
from portal.refusals import phrases, told


def acted(action: str, in_language: str = "") -> str:
    """An action of the trail in a language (this request's unless another is given); one that the catalogue
    does not have is shown as it is."""
    known = texts(in_language or language())
    if whole := known.get(f"act.{action}"):
        return whole
    verb, _, what = action.partition(" ")
    pattern = known.get(f"act-on.{verb}")
    if action.startswith("read labels of "):
        pattern, what = known["act.labels"], action.removeprefix("read labels of ")
    return pattern.format(what=known.get(f"type.{what}", what)) if pattern and what else action


def ended(outcome: str) -> str:
    """How it ended."""
    return texts(language()).get(f"outcome.{outcome}", outcome)


def decided_by(step: str) -> str:
    """The name of a step of a decision: role, sign-in, rule:<id>, consent or scope."""
    name, _, rule = step.partition(":")
    return texts(language()).get(f"step.{name}", step).format(id=rule)


def detailed(detail: str) -> str:
    """What else is known: counts and the reasons of refused sign-ins in words; what people wrote as it is."""
    is_ours = detail[:1].isdigit() or detail in phrases(language())
    return told(detail) if is_ours else detail
