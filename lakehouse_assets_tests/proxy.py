"""Stands before a real server and disturbs what is said: answers that get lost, errors, slowness, lines that are cut.

Knows no protocol. A disturbance waits for a request that begins as its pattern says; what is not disturbed passes unchanged.
"""

import re
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from lakehouse_assets.local.ports import HOST

_CHUNK = 1 << 16
_SECONDS = 30.0


@dataclass(slots=True)
class Disturbance:
    """What becomes of the next `times` requests that match.

    `cut`: the request never arrives. `lose`: it is done, and its answer is lost. `hold`: it arrives after `seconds`.
    Bytes: the answer, given without asking the server.
    """

    pattern: re.Pattern[bytes]
    how: Literal["cut", "lose", "hold"] | bytes
    times: int = 1
    seconds: float = 0.0
    met: list[str] = field(default_factory=list)


def reply(status: int, words: str, body: str, kind: str = "application/json") -> bytes:
    """An answer of HTTP, after which the line ends."""
    head = f"HTTP/1.1 {status} {words}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (head + body).encode()


class FaultyProxy:
    """A context manager: entering opens its port, leaving closes it."""

    def __init__(self, port: int) -> None:
        self._upstream = (HOST, port)
        self._listener = socket.create_server((HOST, 0))
        self._disturbances: list[Disturbance] = []
        self._lines: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_away = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.go_away()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def disturb(
        self, pattern: bytes, how: Literal["cut", "lose", "hold"] | bytes, times: int = 1, seconds: float = 0.0
    ) -> Disturbance:
        """From now on. Its `met` says which requests it met."""
        self._disturbances.append(Disturbance(re.compile(pattern), how, times, seconds))
        return self._disturbances[-1]

    def calm(self) -> None:
        """No disturbance waits any more."""
        self._disturbances.clear()
        self._is_away = False

    def go_away(self) -> None:
        """Every line is cut, and every new one at once."""
        self._is_away = True
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            _end(line)

    def come_back(self) -> None:
        """New lines are taken again."""
        self._is_away = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            if self._is_away:
                _end(client)
            else:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._upstream, _SECONDS)
        except OSError:
            _end(client)
            return
        server.settimeout(None)
        for line in (client, server):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._lines.add(line)
        losing = threading.Event()
        threading.Thread(target=self._pass_answers, args=(server, client, losing), daemon=True).start()
        with suppress(OSError):
            self._pass_requests(client, server, losing)
        for line in (client, server):
            _end(line)
            with self._lock:
                self._lines.discard(line)

    def _pass_requests(self, client: socket.socket, server: socket.socket, losing: threading.Event) -> None:
        while chunk := client.recv(_CHUNK):
            found = self._find(chunk)
            if found is not None and found.how == "cut":
                return
            if found is not None and isinstance(found.how, bytes):
                client.sendall(found.how)
                client.shutdown(socket.SHUT_WR)
                client.settimeout(_SECONDS)
                while client.recv(_CHUNK):  # the rest of the request, so that the answer is not thrown away with it
                    pass
                return
            if found is not None and found.how == "hold":
                time.sleep(found.seconds)
            if found is not None and found.how == "lose":
                losing.set()
            server.sendall(chunk)

    def _pass_answers(self, server: socket.socket, client: socket.socket, losing: threading.Event) -> None:
        with suppress(OSError):
            while chunk := server.recv(_CHUNK):
                if losing.is_set() and not chunk.startswith(b"HTTP/1.1 100"):
                    break
                client.sendall(chunk)
        _end(client)

    def _find(self, chunk: bytes) -> Disturbance | None:
        with self._lock:
            for waiting in self._disturbances:
                if waiting.times > 0 and waiting.pattern.match(chunk):
                    waiting.times -= 1
                    waiting.met.append(chunk[:80].decode(errors="replace").splitlines()[0])
                    return waiting
        return None


def _end(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()
