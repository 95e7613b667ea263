"""A minimum rate for bodies, so that a slow one cannot hold its job's slot forever."""


class MinimumRate:
    """Measures the rate of a body over windows of waiting time.

    Only time spent waiting for the other side counts, not time in which the own rate limit or a slow target stops the
    reading.

    Args:
        bytes_per_second: the slowest rate; 0 for none.
        window: seconds of waiting over which it is measured.
    """

    def __init__(self, bytes_per_second: float, window: float) -> None:
        self._least = bytes_per_second * window
        self._window = window
        self._bytes = 0
        self._waited = 0.0

    def record(self, size: int) -> None:
        """Count bytes that have come, or gone."""
        self._bytes += size

    def record_wait(self, seconds: float) -> bool:
        """Count time that was waited; return whether a window has ended in which too little came."""
        self._waited += seconds
        if self._waited < self._window:
            return False
        is_too_slow = self._bytes < self._least
        self._bytes, self._waited = 0, 0.0
        return is_too_slow
