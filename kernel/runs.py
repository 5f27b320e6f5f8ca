"""Long answers: their pieces leave together, as many as make a run, uncopied where the server can do that.

What is sent alone wakes both ends, which costs more than a copy; and a copy costs about half of what it costs
to decrypt.
"""

from collections.abc import Iterable, Iterator

RUN_BYTES = 524288


class Runs:
    """The body of an answer. A server that knows it takes `runs`; to any other it is an iterable of bytes."""

    def __init__(self, pieces: Iterable[bytes], run_bytes: int = RUN_BYTES) -> None:
        self._pieces = pieces
        self._run_bytes = run_bytes

    def runs(self) -> Iterator[list[bytes]]:
        """The pieces, gathered until they are long enough."""
        held: list[bytes] = []
        size_bytes = 0
        for piece in self._pieces:
            held.append(piece)
            size_bytes += len(piece)
            if size_bytes >= self._run_bytes:
                yield held
                held, size_bytes = [], 0
        if held:
            yield held

    def __iter__(self) -> Iterator[bytes]:
        return map(b"".join, self.runs())

    def close(self) -> None:
        """Whoever asked is gone, or has everything."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
