"""The health of a registry as its responses have shown it, without requests of their own."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property

from tagferry.http.response import Response

_WEIGHT = 0.2
"""The weight of a new latency in the average."""


class Certificate:
    """A TLS certificate in DER. It is parsed only if it is shown."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    @cached_property
    def expires_at(self) -> datetime | None:
        """When it expires; None if it cannot be parsed."""
        # Imported here because it is slow to load and rarely needed.
        from cryptography.x509 import load_der_x509_certificate

        try:
            return load_der_x509_certificate(self.content).not_valid_after_utc
        except ValueError:
            return None


class Observed:
    """The responses of one registry, as far as they show its health.

    Args:
        clock: the current time.

    Attributes:
        succeeded_at: when a request last succeeded.
        latency: seconds from the last request to the first byte of its response.
        smoothed_latency: an average of the latencies, in which newer ones count more.
    """

    def __init__(self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._certificate: Certificate | None = None
        self._date: tuple[str, datetime] | None = None
        self.succeeded_at: datetime | None = None
        self.latency: float | None = None
        self.smoothed_latency: float | None = None

    @property
    def certificate_expires_at(self) -> datetime | None:
        """When the registry's TLS certificate expires; None if it is unknown."""
        return None if self._certificate is None else self._certificate.expires_at

    @property
    def clock_difference(self) -> timedelta | None:
        """How far the registry's clock is ahead of this machine's, to a second; None if it is unknown."""
        if self._date is None:
            return None
        # Imported here because it is rarely needed.
        from email.utils import parsedate_to_datetime

        header, received_at = self._date
        try:
            date = parsedate_to_datetime(header)
        except ValueError:
            return None
        return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)) - received_at

    def record(self, response: Response) -> None:
        """Learn from a response of the registry itself to a request that only reads."""
        now = self._clock()
        if response.status < 400 or response.status == 404:
            self.succeeded_at = now
        if (date := response.headers.get("Date")) is not None:
            self._date = date, now
        before = self.smoothed_latency
        self.latency = response.latency
        self.smoothed_latency = self.latency if before is None else before + _WEIGHT * (self.latency - before)
        content = response.peer_certificate
        if content is not None and (self._certificate is None or self._certificate.content != content):
            self._certificate = Certificate(content)
