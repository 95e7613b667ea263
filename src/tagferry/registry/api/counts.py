"""Counts of the requests to an embedded registry, for the metrics."""

from tagferry.metrics import EMBEDDED_BYTES, EMBEDDED_REQUESTS
from tagferry.metrics.instruments import CounterSeries

Operation = tuple[str, str]
"""A method and what is requested, such as `manifest`."""
UNKNOWN: Operation = ("", "")
"""The operation of a request that the registry does not serve."""


class RegistryCounts:
    """The counts of one registry. Its series are looked up once, since every request needs them.

    Args:
        region: the registry's region.

    Attributes:
        sent: the bytes of bodies that clients have read.
        received: the bytes of bodies that clients have written.
    """

    def __init__(self, region: str) -> None:
        self._region = region
        self._requests: dict[tuple[Operation, int], CounterSeries] = {}
        self.sent = EMBEDDED_BYTES.labels(region=region, direction="read")
        self.received = EMBEDDED_BYTES.labels(region=region, direction="written")

    def answered(self, operation: Operation, status: int) -> None:
        """Count a request whose response begins."""
        key = operation, status // 100
        found = self._requests.get(key)
        if found is None:
            name, status_class = " ".join(operation), f"{status // 100}xx"
            found = self._requests[key] = EMBEDDED_REQUESTS.at((self._region, name, status_class))
        found.value += 1
