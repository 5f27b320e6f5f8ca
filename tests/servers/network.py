"""A machine of its own on the network: a network namespace, joined to this one by a cable that can be cut.

What listens on this machine's loopback is reached from there through relays. A cut cable says nothing to
anybody: packets are lost, connections stay open, as when a switch fails.
"""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass


@dataclass
class Apart:
    """The namespace, and the addresses of both ends of its cable."""

    name: str
    here: str  # this machine, as seen from there
    there: str

    @property
    def command(self) -> list[str]:
        """What is put before a command so that it runs there."""
        return ["ip", "netns", "exec", self.name]

    def cut(self) -> None:
        """Cut the cable."""
        _ip("link", "set", f"{self.name}h", "down")

    def mend(self) -> None:
        """Mend it: its address is kept, its route comes back with it."""
        _ip("link", "set", f"{self.name}h", "up")


@contextmanager
def machine_apart(ports: tuple[int, ...]) -> Iterator[Apart]:
    """A namespace that reaches these ports of this machine's loopback, until the block ends. Needs root."""
    number = os.getpid() % 60_000
    name, net = f"cf{number}", f"10.{88 + number // 16_384}.{number // 64 % 256}.{number % 64 * 4}"
    base, _, last = net.rpartition(".")
    apart = Apart(name, f"{base}.{int(last) + 1}", f"{base}.{int(last) + 2}")
    with ExitStack() as stack:
        _ip("netns", "add", name)
        stack.callback(_ip, "netns", "del", name)
        _ip("link", "add", f"{name}h", "type", "veth", "peer", "name", "eth0", "netns", name)
        stack.callback(suppressed_ip, "link", "del", f"{name}h")
        _ip("addr", "add", f"{apart.here}/30", "dev", f"{name}h")
        _ip("link", "set", f"{name}h", "up")
        for command in (("addr", "add", f"{apart.there}/30", "dev", "eth0"), ("link", "set", "eth0", "up"),
                        ("link", "set", "lo", "up")):  # fmt: skip
            _ip("-n", name, *command)
        for port in ports:
            stack.enter_context(_relay(apart.here, port))
        yield apart


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)


def suppressed_ip(*arguments: str) -> None:
    """As the cable goes with the namespace, it may be gone."""
    with suppress(subprocess.CalledProcessError):
        _ip(*arguments)


@contextmanager
def _relay(address: str, port: int) -> Iterator[None]:
    """Connections to a port of an address go on to the same port of the loopback."""
    listening = socket.create_server((address, port), backlog=64)

    def accept() -> None:
        while True:
            try:
                outer, _ = listening.accept()
            except OSError:
                return
            try:
                inner = socket.create_connection(("127.0.0.1", port), timeout=10)
            except OSError:
                outer.close()
                continue
            inner.settimeout(None)
            for source, target in ((outer, inner), (inner, outer)):
                threading.Thread(target=_pump, args=(source, target), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
