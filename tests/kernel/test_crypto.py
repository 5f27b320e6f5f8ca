"""Sealed blobs and the key ring."""

import hmac
import io
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.crypto import DamagedBlob, KeyRing, Seal, open_range, read_header
from kernel.errors import InvalidSetting
from kernel.packing import UnreadablePacking, pack, unpack
from kernel.suites import COMMERCIAL, INTERNATIONAL, Suite, hmac_sha256

CHUNK = 4096


def ring() -> KeyRing:
    return KeyRing({"k1": bytes(range(32))}, "k1")


def sealed(
    keys: KeyRing, plain: bytes, suite: str = "AES-256-GCM", packs: bool = False
) -> tuple[Seal, bytes]:
    seal, sealer = keys.new_seal(suite, CHUNK, packs)
    pieces = [plain[at : at + CHUNK] for at in range(0, len(plain), CHUNK)] or [b""]
    body = b"".join(sealer.chunk(piece, number == len(pieces) - 1) for number, piece in enumerate(pieces))
    table, packed_bytes = sealer.end(len(plain))
    return replace(seal, size_bytes=len(plain), packed_bytes=packed_bytes), sealer.header + body + table


def opened(keys: KeyRing, seal: Seal, blob: bytes, offset: int = 0, length: int = 1 << 30) -> bytes:
    def pread(size: int, at: int, /) -> bytes:
        return blob[at : at + size]

    return b"".join(open_range(seal, keys.cipher(seal), pread, offset, length))


@pytest.mark.parametrize("suite", ["AES-256-GCM", "SM4-GCM"])
@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 17])
def test_what_is_sealed_opens_to_the_same_bytes(suite: str, size: int) -> None:
    keys, plain = ring(), bytes(at * 7 % 251 for at in range(size))
    seal, blob = sealed(keys, plain, suite)

    assert opened(keys, seal, blob) == plain
    assert len(blob) == seal.sealed_bytes


@given(size=st.integers(0, 3 * CHUNK), offset=st.integers(0, 4 * CHUNK), length=st.integers(0, 4 * CHUNK))
@settings(max_examples=200, deadline=None)
def test_any_range_is_what_a_slice_of_the_plain_bytes_would_be(size: int, offset: int, length: int) -> None:
    keys, plain = ring(), bytes(at % 253 for at in range(size))
    seal, blob = sealed(keys, plain)

    assert opened(keys, seal, blob, offset, length) == plain[offset : offset + length]


@given(
    size=st.integers(0, 3 * CHUNK), offset=st.integers(0, 4 * CHUNK), length=st.integers(0, 4 * CHUNK),
    dice=st.randoms(),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_any_range_of_a_packed_blob_too(size: int, offset: int, length: int, dice: Random) -> None:
    keys, plain = ring(), b"".join(dice.choice((bytes(7), dice.randbytes(9))) for _ in range(size // 8))
    seal, blob = sealed(keys, plain, packs=True)

    assert opened(keys, seal, blob, offset, length) == plain[offset : offset + length]
    assert len(blob) == seal.sealed_bytes
    assert Seal.unpack(seal.pack()) == read_header(io.BytesIO(blob), len(blob)) == seal


def test_pixels_of_16_bits_pack_better_with_their_bytes_apart_and_noise_does_not_grow() -> None:
    dice = Random(1)
    pixels = b"".join((1000 + dice.randrange(64)).to_bytes(2, "little") for _ in range(20_000))
    noise = dice.randbytes(40_000)

    assert len(pack(pixels)) < 0.5 * len(pixels)
    assert unpack(pack(pixels), len(pixels)) == pixels
    assert len(pack(noise)) == len(noise) + 1
    with pytest.raises(UnreadablePacking):
        unpack(b"\x63abc", 3)


def test_a_changed_byte_of_a_packed_blob_is_noticed_in_chunks_and_table() -> None:
    keys, plain = ring(), bytes(range(256)) * 40
    seal, blob = sealed(keys, plain, packs=True)

    for at in range(seal.header_bytes, len(blob) - 8, 7):  # the last 8 are for recovery without a database
        changed = bytearray(blob)
        changed[at] ^= 1
        with pytest.raises(DamagedBlob):
            opened(keys, seal, bytes(changed))


def test_a_changed_byte_anywhere_in_the_chunks_is_noticed() -> None:
    keys, plain = ring(), b"x" * (2 * CHUNK + 5)
    seal, blob = sealed(keys, plain)

    for at in range(seal.header_bytes, len(blob), 97):
        changed = bytearray(blob)
        changed[at] ^= 1
        with pytest.raises(DamagedBlob):
            opened(keys, seal, bytes(changed))


def test_swapped_cut_and_foreign_chunks_do_not_open() -> None:
    keys, plain = ring(), b"x" * (3 * CHUNK)
    seal, blob = sealed(keys, plain)
    head, size = seal.header_bytes, CHUNK + 16
    chunks = [blob[head + at * size : head + (at + 1) * size] for at in range(3)]
    _, other = sealed(keys, plain)

    swapped = blob[:head] + chunks[1] + chunks[0] + chunks[2]
    foreign = blob[:head] + other[head:]
    for wrong in (swapped, foreign):
        with pytest.raises(DamagedBlob):
            opened(keys, seal, wrong)
    with pytest.raises(DamagedBlob):
        opened(keys, replace(seal, size_bytes=2 * CHUNK), blob[: head + 2 * size])


def test_the_blob_and_the_ring_alone_are_enough_to_recover() -> None:
    keys, plain = ring(), b"recover me" * 1000
    seal, blob = sealed(keys, plain)

    assert read_header(io.BytesIO(blob), len(blob)) == seal


def test_rotation_keeps_old_blobs_readable_and_rewraps_without_rewriting(tmp_path: Path) -> None:
    keys = KeyRing.load(tmp_path / "ring.json")
    seal, blob = sealed(keys, b"old")
    new_key = keys.rotate()
    renewed = keys.rewrap(seal)

    again = KeyRing.load(tmp_path / "ring.json")
    assert again.current == new_key == renewed.key_id != seal.key_id
    assert opened(again, seal, blob) == opened(again, renewed, blob) == b"old"


def test_a_seal_survives_its_column() -> None:
    seal, _ = sealed(ring(), b"x" * 100_000)

    assert Seal.unpack(seal.pack()) == seal


def test_a_sealed_value_opens_only_in_its_own_place() -> None:
    keys = ring()
    value = keys.seal_bytes(b"value", "table.column")

    assert keys.open_bytes(value, "table.column") == b"value"
    with pytest.raises(DamagedBlob):
        keys.open_bytes(value, "table.other")
    for wrong in (b"", b"\x00", value[:-1], value[:5]):
        with pytest.raises(DamagedBlob):
            keys.open_bytes(wrong, "table.column")


def test_the_ring_is_readable_by_its_owner_only_and_a_damaged_one_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    KeyRing.load(path)

    assert path.stat().st_mode & 0o077 == 0
    path.write_text("{}")
    with pytest.raises(InvalidSetting, match="damaged"):
        KeyRing.load(path)


def test_equal_texts_have_equal_blind_indexes_and_no_others() -> None:
    keys = ring()

    assert keys.blind_index("11010519491231002X") == ring().blind_index("11010519491231002X")
    assert keys.blind_index("11010519491231002X") != keys.blind_index("110105194912310021")


@pytest.mark.parametrize("suite", [INTERNATIONAL, COMMERCIAL], ids=lambda suite: suite.name)
def test_a_blind_number_is_the_beginning_of_the_blind_index(suite: Suite) -> None:
    keys = KeyRing({"k1": bytes(32)}, "k1", suite=suite)

    for text in ("结节", "nodule", "结节"):
        beginning = bytes.fromhex(keys.blind_index(text))[:8]
        assert keys.blind_number(text) == int.from_bytes(beginning, signed=True)


@given(st.lists(st.tuples(st.binary(max_size=100), st.binary(max_size=300)), max_size=30))
def test_a_keyed_hash_is_hmac_sha256_whichever_keys_came_before(texts: list[tuple[bytes, bytes]]) -> None:
    for key, text in texts:
        assert hmac_sha256(key, text) == hmac.digest(key, text, "sha256")
