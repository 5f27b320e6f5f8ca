"""Which steps of a decision hide one study: what a refusal that looks like "not found" comes from."""

from sqlalchemy import select

from access.caller import Action, Reach
from access.policy import Decision, Step
from archive.model import Study
from archive.reach import within
from archive.retrieve import NotFound
from archive.room import Archive


def hiding_steps(
    archive: Archive, decision: Decision, action: Action, study_instance_uid: str
) -> tuple[Step, ...]:
    """The steps that leave a study out of reach of an action on images; none: it is within reach.

    Raises NotFound when there is no such study at all.
    """
    wanted = select(Study.id).where(Study.study_instance_uid == study_instance_uid)
    with archive.database.snapshot() as session:
        if session.scalar(wanted) is None:
            raise NotFound(f"Study {study_instance_uid}")
        return tuple(
            step
            for step in decision.steps
            if step.limit is not None
            and session.scalar(within(wanted, Reach((step.limit,)).for_verb(action.verb))) is None
        )
