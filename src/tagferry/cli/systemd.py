"""Notify systemd of the state of this process, if the unit has `Type=notify`."""

import os
import socket

import structlog

log = structlog.get_logger("tagferry")


def notify(*states: str) -> None:
    """Send states such as `READY=1` to the socket that systemd names (sd_notify(3)); do nothing without one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    # An abstract socket.
    address = f"\0{address[1:]}" if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as opened:
            opened.connect(address)
            opened.sendall("\n".join(states).encode())
    except OSError as error:
        log.warning("could not notify systemd", states=", ".join(states), error=error.strerror)
