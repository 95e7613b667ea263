"""A network for each worker, so that one of them can silently lose the database and nothing else.

Everything happens inside this process's own network namespace (`unshare -n`), which is unreachable from outside and
ends with it. Each worker has two links to it, one to the registries and one to the database, so that the registries
know it by its address. To cut it off from the database, both ends of that link get a wrong hardware address for the
other: their packets arrive nowhere, and neither end is notified.
"""

import subprocess

REGISTRIES, DATABASE = "10.77.0.1", "10.77.0.2"
WORKERS = "10.77.0.0/16"
IN_OWN_NETWORK = ("unshare", "-n", "--", "sh", "-c", 'read -r _ && exec "$@"', "sh")
"""The prefix of a command that waits for a line on its input, until its network exists."""

_NOBODY = "02:00:00:00:00:01"


def prepare() -> None:
    """Assign the servers' addresses; call it once in the namespace."""
    _ip("link set lo up")
    for address in (REGISTRIES, DATABASE):
        _ip(f"address add {address}/32 dev lo")


def connect(number: int, process_id: int) -> str:
    """Link the namespace of a worker's process; returns its address as the registries see it."""
    for kind, server, subnet in (("data", REGISTRIES, 100 + number), ("base", DATABASE, 200 + number)):
        _ip(f"link add {kind}{number} type veth peer name {kind} netns {process_id}")
        _ip(f"address add 10.77.{subnet}.1/30 dev {kind}{number}")
        _ip(f"link set {kind}{number} up")
        _ip(f"address add 10.77.{subnet}.2/30 dev {kind}", process_id)
        _ip(f"link set {kind} up", process_id)
        _ip(f"route add {server} via 10.77.{subnet}.1", process_id)
    _ip("link set lo up", process_id)
    return f"10.77.{100 + number}.2"


def cut_off(number: int, process_id: int) -> None:
    """Cut a worker off from the database."""
    subnet = 200 + number
    _ip(f"neighbour replace 10.77.{subnet}.1 lladdr {_NOBODY} nud permanent dev base", process_id)
    _ip(f"neighbour replace 10.77.{subnet}.2 lladdr {_NOBODY} nud permanent dev base{number}")


def heal(number: int, process_id: int) -> None:
    """Restore the link."""
    subnet = 200 + number
    _ip(f"neighbour delete 10.77.{subnet}.1 dev base", process_id)
    _ip(f"neighbour delete 10.77.{subnet}.2 dev base{number}")


def _ip(arguments: str, process_id: int | None = None) -> None:
    inside = ["nsenter", "-t", str(process_id), "-n"] if process_id is not None else []
    done = subprocess.run([*inside, "ip", *arguments.split()], capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {arguments}: {done.stderr.strip()}")
