"""Bind the addresses of a process before it begins to work."""

import socket
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

from tagferry.app.startup.problem import Problem
from tagferry.settings import Settings
from tagferry.web.server.sockets import AddressUnusable, bind, overlap

Bound = list[socket.socket]


@contextmanager
def bound_addresses(
    settings: Settings, *, serves: bool, own: Collection[int] = ()
) -> Iterator[tuple[Bound, list[Problem]]]:
    """Bind the addresses of the served regions and of the metrics, in this order, and close them in the end.

    Nothing listens on them yet, so a client cannot connect to a server that is not ready. If there are problems, some
    sockets are missing.

    Args:
        settings: the configuration.
        serves: whether this process serves its regions; otherwise only the metrics have an address.
        own: the ids of this installation's servers. If one of them uses an address, that is no error.
    """
    with ExitStack() as stack:
        bound: list[tuple[str, socket.socket]] = []
        problems = []
        for subject, key, address in _addresses(settings, serves=serves):
            setting = f'{subject}: {key} "{address}"' if subject != key else f'{key} "{address}"'
            try:
                opened = stack.enter_context(bind(address))
            except AddressUnusable as error:
                problems.append(_problem(subject, setting, error, own))
                continue
            if (other := next((other for other, held in bound if overlap(opened, held)), None)) is not None:
                sentence = f"{setting} has the same port and address as {other}"
                problems.append(Problem(subject, sentence, "give each of them a port of its own"))
            bound.append((setting, opened))
        yield [opened for _, opened in bound], problems


def _addresses(settings: Settings, *, serves: bool) -> Iterator[tuple[str, str, str]]:
    """Yield the subject, the key and the address of each listener."""
    for name, region in settings.served_regions.items() if serves else ():
        yield f"region {name}", "listen", region.listen or ""
    if settings.metrics_listen is not None:
        yield "metrics_listen", "metrics_listen", settings.metrics_listen


def _problem(subject: str, setting: str, error: AddressUnusable, own: Collection[int]) -> Problem:
    if error.holder is not None and error.holder in own:
        return Problem(subject, f"{setting} is in use by the running server, process {error.holder}", severity="note")
    return Problem(subject, f"{setting} {error.fault}", error.remedy)
