"""The answers of one connection, whatever is known first."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from bitville_apm.agent.connection import PhpConnection


class Wire:
    """A transport over one end of a socket pair; `said` is what the other end has received."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.closed = False

    def getHandle(self) -> socket.socket:
        return self.ours

    def write(self, data: bytes) -> None:
        self.ours.sendall(data)

    def loseConnection(self) -> None:
        self.closed = True

    def said(self) -> bytes:
        self.ours.close()
        return self.theirs.recv(1000)


class Listener:
    """Takes what a connection tells, and does nothing with it."""

    def __getattr__(self, name: str) -> object:
        return lambda *arguments: None


@contextlib.contextmanager
def connected() -> Iterator[tuple[PhpConnection, Wire]]:
    connection, wire = PhpConnection(Listener(), Listener()), Wire()
    connection.transport = wire  # type: ignore[assignment]
    connection.connected = 1
    with wire.ours, wire.theirs:
        yield connection, wire


@given(st.lists(st.sampled_from([b"+", b"-"]), max_size=20), st.randoms(use_true_random=False))
def test_answers_go_out_in_the_order_of_their_lines(answers: list[bytes], random: object) -> None:
    """COMM-02: a refusal is known at once, an append later; the client still reads them line by line."""
    with connected() as (connection, wire):
        owed = [(connection.owe(), byte) for byte in answers]
        random.shuffle(owed)  # type: ignore[attr-defined]
        for place, byte in owed:
            connection.settle(place, byte)
        assert connection.unanswered == 0
        assert wire.said() == b"".join(answers)


def test_nothing_is_said_behind_a_line_without_an_answer() -> None:
    """COMM-03: a line that the disk did not take stays with its sender: no later ack may be taken for its own."""
    with connected() as (connection, wire):
        first, second, third = connection.owe(), connection.owe(), connection.owe()
        connection.settle(third, b"+")
        connection.settle(second, None)
        connection.settle(first, b"+")
        connection.settle(connection.owe(), b"+")
        assert connection.unanswered == 0
        assert wire.said() == b"+"


def test_closes_after_the_last_answer_once_the_client_has_ended() -> None:
    """DAEMON-07: a client that has said its last word still gets its answer before the connection closes."""
    with connected() as (connection, wire):
        owed = connection.owe()
        connection.readConnectionLost()
        assert not wire.closed
        connection.settle(owed, b"+")
        assert wire.closed
        assert wire.said() == b"+"
