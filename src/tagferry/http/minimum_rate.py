"""A minimum rate for bodies, so that a slow transfer cannot hold a job's slot forever."""


class MinimumRate:
    """Measures the rate of a body over windows of waiting time.

    Only time spent waiting for the peer counts, not time in which tagferry's own rate limit or a slow target pauses
    reading.

    Args:
        bytes_per_second: the minimum rate; 0 for none.
        window: seconds of waiting per measurement.
    """

    def __init__(self, bytes_per_second: float, window: float) -> None:
        self._least = bytes_per_second * window
        self._window = window
        self._bytes = 0
        self._waited = 0.0

    def record(self, size: int) -> None:
        """Count transferred bytes."""
        self._bytes += size

    def record_wait(self, seconds: float) -> bool:
        """Count waiting time; return whether a window has ended below the minimum rate."""
        self._waited += seconds
        if self._waited < self._window:
            return False
        is_too_slow = self._bytes < self._least
        self._bytes, self._waited = 0, 0.0
        return is_too_slow
