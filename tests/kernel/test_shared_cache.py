"""What machines share through a real Redis: nothing that they could not lose, and nothing in the clear."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from access.tokens import ACCESS, issue
from archive.render_cache import RenderCache
from cloudfilm.rooms import Rooms, build_rooms
from cloudfilm.web import create_app
from kernel import shared_cache
from kernel.crypto import KeyRing
from kernel.errors import InvalidSetting
from kernel.settings import CacheSettings, Settings
from kernel.shared_cache import SharedCache
from kernel.throttle import Throttle, TooManyRequests
from tests.servers.redis import RedisServer, redis_in

KEY = "ab" * 32


def token_of(rooms: Rooms) -> str:
    """A script's access token."""
    with rooms.database.transaction() as session:
        return issue(rooms.access, session, ACCESS, life_s=600, role="operator", scope="system/*.rs")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_in(tmp_path_factory.mktemp("redis")) as server:
        yield server


def machine(folder: Path, redis: RedisServer) -> RenderCache:
    """The cache of a machine that has the region's key ring."""
    keys = KeyRing({"k1": bytes(range(32))}, "k1")
    return RenderCache(folder, keys, 1 << 20, SharedCache(redis.url), 60)


def test_what_one_machine_rendered_another_finds_and_keeps(redis: RedisServer, tmp_path: Path) -> None:
    one, other = machine(tmp_path / "one", redis), machine(tmp_path / "other", redis)
    assert other.get(KEY) is None
    one.put(KEY, b"a picture of somebody")
    assert other.get(KEY) == b"a picture of somebody"
    redis.client().flushall()

    assert other.get(KEY) == b"a picture of somebody"


def test_redis_holds_nothing_that_can_be_read_or_changed(redis: RedisServer, tmp_path: Path) -> None:
    machine(tmp_path / "one", redis).put(KEY, b"a picture of somebody")
    client = redis.client()
    (name,) = client.keys("cloudfilm:rendered:*")
    held = client.get(name)
    assert isinstance(held, bytes)
    assert isinstance(name, bytes)
    assert b"somebody" not in held
    client.set(name.decode().replace("ab", "cd"), held)  # under another picture's name
    client.set(name, held[:-1] + bytes([held[-1] ^ 1]))
    other = machine(tmp_path / "other", redis)

    assert (other.get(KEY), other.get("cd" * 32)) == (None, None)


def test_without_redis_each_machine_goes_on_by_itself(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_cache, "AWAY_FOR_S", 0.0)  # else it is left alone for some seconds
    one, other = machine(tmp_path / "one", redis), machine(tmp_path / "other", redis)
    redis.kill()
    one.put(KEY, b"picture")
    assert (one.get(KEY), other.get(KEY)) == (b"picture", None)
    redis.start()
    one.put(KEY, b"picture")

    assert other.get(KEY) == b"picture"


def test_a_cache_that_was_away_is_left_alone_for_a_while(redis: RedisServer) -> None:
    cache = SharedCache("redis://127.0.0.1:1/0")
    assert cache.get("x") is None
    cache._redis = redis.client()  # it would answer now, and is not asked yet
    cache.put("x", b"1", 60)

    assert redis.client().get("cloudfilm:x") is None


def test_requests_are_counted_by_all_machines_together_or_by_each_without_redis(redis: RedisServer) -> None:
    one, other = (Throttle(4, SharedCache(redis.url)) for _ in range(2))
    for machine in (one, other, one, other):
        machine.require("account")
    for machine in (one, other):
        with pytest.raises(TooManyRequests):
            machine.require("account")
    one.require("another account")
    alone = Throttle(1, SharedCache("redis://127.0.0.1:1/0"))
    alone.require("account")
    with pytest.raises(TooManyRequests):
        alone.require("account")
    Throttle(0).require("anybody")


def test_a_client_run_wild_is_told_to_wait_and_the_others_go_on(settings: Settings) -> None:
    rooms = build_rooms(replace(settings, web=replace(settings.web, requests_per_minute=3)))
    browser = create_app(rooms).test_client()
    wild, calm = ({"Authorization": f"Bearer {token_of(rooms)}"} for _ in range(2))
    answers = [browser.get("/dicomweb/studies", headers=wild) for _ in range(8)]

    assert [answer.status_code for answer in answers[-4:]] == [429] * 4
    assert answers[-1].headers["Retry-After"] == "5"
    assert browser.get("/dicomweb/studies", headers=calm).status_code in (200, 204)
    rooms.close()


def test_an_address_that_is_none_stops_the_start(settings: Settings) -> None:
    with pytest.raises(InvalidSetting, match=r"cache\.url"):
        build_rooms(replace(settings, cache=CacheSettings(url="memcached://x")))
