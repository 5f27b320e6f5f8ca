"""What threads bring at once is done at once, and each is told of its own."""

import threading
from collections.abc import Sequence

import pytest

from kernel.together import Together


def test_what_waits_is_done_together_and_each_gets_its_own() -> None:
    begun, go_on = threading.Event(), threading.Event()
    batches: list[list[int]] = []

    def double(numbers: Sequence[int]) -> list[int | Exception]:
        batches.append(sorted(numbers))
        begun.set()
        go_on.wait(10)
        return [number * 2 if number != 5 else ValueError(number) for number in numbers]

    together = Together(double, most=4)
    told: dict[int, int | str] = {}

    def ask(number: int) -> None:
        try:
            told[number] = together.run(number)
        except ValueError as failure:
            told[number] = str(failure)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    threads[0].start()
    begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(together._waiting) < 7:
        threading.Event().wait(0.01)
    go_on.set()
    for thread in threads:
        thread.join()

    assert told == {number: number * 2 for number in range(8)} | {5: "5"}
    assert [len(batch) for batch in batches] == [1, 4, 3]


def test_what_is_raised_is_raised_to_all_of_them() -> None:
    def fail(_works: Sequence[str]) -> list[str | Exception]:
        raise KeyError("away")

    together = Together(fail)

    assert [type(each) for each in together.run_all(["a", "b"])] == [KeyError, KeyError]
    with pytest.raises(KeyError):
        together.run("c")


def test_who_is_done_waits_for_nobody_who_came_later() -> None:
    begun, go_on = threading.Semaphore(0), {name: threading.Event() for name in "abc"}

    def hold(names: Sequence[str]) -> list[str | Exception]:
        begun.release()
        go_on[names[0]].wait(10)
        return list(names)

    together = Together(hold)
    threads = {name: threading.Thread(target=together.run, args=(name,)) for name in "abc"}
    threads["a"].start()
    begun.acquire()
    threads["b"].start()
    while len(together._waiting) < 1:
        threading.Event().wait(0.01)
    go_on["a"].set()
    begun.acquire()
    threads["c"].start()
    threads["a"].join(10)

    assert not threads["a"].is_alive()
    for event in go_on.values():
        event.set()
    for thread in threads.values():
        thread.join()
