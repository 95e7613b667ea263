"""Log events of modules that every command loads; the logging library is loaded with the first event."""

from typing import Any


class Events:
    """A logger.

    Args:
        name: the module's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, event: str, **fields: Any) -> None:
        """Log what happened."""
        self._logger().info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log what an operator should look at."""
        self._logger().warning(event, **fields)

    def _logger(self) -> Any:
        import structlog

        return structlog.get_logger(self._name)
