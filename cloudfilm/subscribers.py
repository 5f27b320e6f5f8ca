"""What follows a change: every subscriber of the feed, on one screen."""

from archive.imaging_study import follow_studies
from cloudfilm.rooms import Rooms
from kernel.changes import Subscriber


def subscribers(rooms: Rooms) -> tuple[Subscriber, ...]:
    """The subscribers with their rooms bound."""
    return (
        Subscriber(
            "imaging-study-index",
            frozenset({"study-created", "study-rested", "study-removed"}),
            lambda session, change: follow_studies(rooms.records, rooms.clock, session, change),
        ),
    )
