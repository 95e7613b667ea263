"""Counts of the requests to one registry, for the metrics."""

from tagferry.errors import Unavailable
from tagferry.metrics import REGISTRY_REQUESTS, REGISTRY_RETRIES, REGISTRY_SECONDS, REGISTRY_THROTTLED
from tagferry.metrics.instruments import CounterSeries, HistogramSeries

_NO_RESPONSE = 0


class RegistryCounts:
    """The counts of one registry. Its series are looked up once, since every request needs them.

    Args:
        region: the registry's name.

    Attributes:
        throttled: the seconds for which requests were held back.
    """

    def __init__(self, region: str) -> None:
        self._region = region
        self._requests: dict[tuple[str, int], CounterSeries] = {}
        self._seconds: dict[str, HistogramSeries] = {}
        self.throttled = REGISTRY_THROTTLED.labels(region=region)

    def answered(self, method: str, status: int, seconds: float) -> None:
        """Count a request whose response has begun, after so many seconds."""
        self._count(method, status // 100)
        found = self._seconds.get(method)
        if found is None:
            found = self._seconds[method] = REGISTRY_SECONDS.labels(region=self._region, method=method)
        found.observe(seconds)

    def failed(self, method: str) -> None:
        """Count a request without a response."""
        self._count(method, _NO_RESPONSE)

    def retried(self, failure: Unavailable) -> None:
        """Count a repetition because of a failure."""
        reason = "throttled" if failure.retry_after else "timeout" if failure.unresponsive else "unavailable"
        REGISTRY_RETRIES.labels(region=self._region, reason=reason).inc()

    def _count(self, method: str, status_class: int) -> None:
        key = method, status_class
        found = self._requests.get(key)
        if found is None:
            status = "error" if status_class == _NO_RESPONSE else f"{status_class}xx"
            found = self._requests[key] = REGISTRY_REQUESTS.labels(region=self._region, method=method, status=status)
        found.value += 1
