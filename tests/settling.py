"""Let everything that follows a change happen now, as the worker does in time."""

from cloudfilm.rooms import Rooms
from cloudfilm.subscribers import subscribers
from kernel.changes import follow_changes, unread_changes


def settle(rooms: Rooms) -> None:
    """Until no subscriber is behind. On PostgreSQL a change waits for older transactions of all databases."""
    following = subscribers(rooms)
    while unread_changes(rooms.database, following):
        follow_changes(rooms.database, following)
