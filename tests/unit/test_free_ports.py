"""The ports that tests give to their servers are free until these listen."""

import socket
import subprocess
import sys

import pytest

from tests.support import processes
from tests.support.processes import free_port


def test_a_port_is_given_once(monkeypatch: pytest.MonkeyPatch):
    first = free_port()
    monkeypatch.setattr(processes, "_PORTS", range(first, first + 1))

    with pytest.raises(RuntimeError, match="is free"):
        free_port()


def test_another_process_is_not_given_the_port():
    port = free_port()
    asked = f"from tests.support import processes as p; p._PORTS = range({port}, {port + 1}); p.free_port()"

    ended = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False, timeout=60)

    assert ended.returncode == 1
    assert "is free" in ended.stderr


def test_nobody_answers_at_a_port_before_a_server_listens():
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free_port()), timeout=5)


def test_a_server_can_listen_at_the_port():
    port = free_port()

    with (
        socket.create_server(("127.0.0.1", port)) as server,
        socket.create_connection(("127.0.0.1", port), timeout=5) as client,
    ):
        assert client.getpeername() == server.getsockname()
