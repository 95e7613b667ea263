"""Listening sockets."""

import socket
from contextlib import closing

import pytest

from tagferry.web.server.sockets import bind

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_CONGESTION"), reason="Linux chooses for each connection")


@pytest.fixture(autouse=True)
def paces(monkeypatch: pytest.MonkeyPatch):
    """Make the system's congestion control count as one that paces, whichever it is."""
    with socket.socket() as one:
        monkeypatch.setattr("tagferry.web.server.sockets._PACING", _control(one))


def test_connections_within_the_machine_are_not_paced():
    with closing(bind("127.0.0.1:0")) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()[:2]), closing(listening.accept()[0]) as accepted:
            assert _control(accepted) == b"reno"


def test_connections_from_other_machines_keep_the_systems_congestion_control():
    with socket.socket() as one, closing(bind("0.0.0.0:0")) as listening:
        assert _control(listening) == _control(one)


def test_a_system_that_does_not_pace_keeps_its_congestion_control(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.web.server.sockets._PACING", b"none")
    with socket.socket() as one, closing(bind("127.0.0.1:0")) as listening:
        assert _control(listening) == _control(one)


def _control(one: socket.socket) -> bytes:
    return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")
