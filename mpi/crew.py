"""The crew: processes that prepare and compare records while one decides and writes.

To normalize and seal what a record says, and to open and weigh those that share a key with it, is most of the
work of loading a register, and none of it depends on what was decided before. What a record is compared with
goes to them sealed, as it lies in the index.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from kernel.crypto import KeyRing
from mpi.blocking import name_key
from mpi.candidates import hash_of, hashes_of, opened, unnumbered
from mpi.demographics import Demographics
from mpi.features import Features, features_of
from mpi.scoring import Scored, Scorer
from mpi.sealing import seal
from mpi.weights import Weights

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A record, ready to be looked for and to be written."""

    said: Demographics
    hashes: list[int]  # of its block keys
    named: int  # the hash that all who bear its name share; 0: it has none
    sealed: bytes


Sealed = tuple[bytes, str, str]
"""What is said, sealed; the issuer; the identifier."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A record and those that it is compared with, each by its number."""

    one: Sealed
    others: Sequence[tuple[int, Sealed]]
    frequency: float  # of the name; 0: not known
    records: int  # the size of the register


class Crew:
    """Hands for many records. processes: 0 does all of it here."""

    def __init__(self, keys: KeyRing, scorer: Scorer, processes: int = 0) -> None:
        self._hand = _Hand(keys, scorer)
        self._pool: ProcessPoolExecutor | None = None
        if processes and keys.path is not None:
            self._pool = ProcessPoolExecutor(
                processes, multiprocessing.get_context("forkserver"), _begin,
                (keys.path, keys.suite.name, scorer.weights, os.nice(0)),
            )  # fmt: skip

    def prepare(self, said: Sequence[Demographics]) -> "Future[list[Prepared]]":
        """What is to be kept of records, in their order."""
        return self._do(_Hand.prepare, said)

    def compare(self, asked: Sequence[Comparison]) -> "Future[list[list[tuple[int, Scored]]]]":
        """For each those of its others that are to be linked or looked at, in the order of the others."""
        return self._do(_Hand.compare, asked)

    def _do(self, work: "Callable[[_Hand, Sequence[Any]], T]", on: Sequence[Any]) -> "Future[T]":
        if self._pool is not None:
            return self._pool.submit(_work, work, on)
        done: Future[T] = Future()
        done.set_result(work(self._hand, on))
        return done

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class _Hand:
    """What one process does."""

    def __init__(self, keys: KeyRing, scorer: Scorer) -> None:
        self.keys, self._scorer = keys, scorer

    def prepare(self, batch: Sequence[Demographics]) -> list[Prepared]:
        return [self._prepared(said) for said in batch]

    def _prepared(self, said: Demographics) -> Prepared:
        said = replace(said, issuer=said.issuer[:64])
        features = features_of(said)
        named = hash_of(self.keys, name_key(features.name)) if features.name else 0
        return Prepared(said, hashes_of(self.keys, features), named, seal(self.keys, said))

    def compare(self, asked: Sequence[Comparison]) -> list[list[tuple[int, Scored]]]:
        return [list(self._near(each)) for each in asked]

    def _near(self, asked: Comparison) -> Iterator[tuple[int, Scored]]:
        one = opened(self.keys, *asked.one)
        alike: dict[Features, Scored | None] = {}  # who share a crowded key often say the same
        for number, sealed in asked.others:
            other = opened(self.keys, *sealed)
            if one.numbers.isdisjoint(other.numbers):
                said = unnumbered(other)
                if said not in alike:
                    alike[said] = self._scorer.near(one, said, asked.frequency, asked.records)
                scored = alike[said]
            else:
                scored = self._scorer.near(one, other, asked.frequency, asked.records)
            if scored is not None:
                yield number, scored


_hand: _Hand  # of this process, where it is one of a crew


def _begin(keys: Path, suite: str, weights: Weights, niceness: int) -> None:
    global _hand
    os.nice(niceness - os.nice(0))  # the server that forks them may have been begun by another
    _hand = _Hand(KeyRing.load(keys, suite), Scorer(weights))


def _work(work: "Callable[[_Hand, Sequence[Any]], T]", on: Sequence[Any]) -> T:
    return work(_hand, on)
