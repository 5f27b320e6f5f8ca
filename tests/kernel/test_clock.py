"""Identifiers that others read."""

import uuid

from kernel.clock import new_id


def test_a_logical_id_is_a_random_uuid() -> None:
    ids = [new_id() for _ in range(200)]
    read = [uuid.UUID(each) for each in ids]

    assert [str(each) for each in read] == ids
    assert {(each.version, each.variant) for each in read} == {(4, uuid.RFC_4122)}
    assert len(set(ids)) == len(ids)
