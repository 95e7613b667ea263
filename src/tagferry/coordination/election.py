"""The election of the one worker that runs tasks which only one process may run."""

from typing import Protocol


class LeaderElection(Protocol):
    """Elects one worker; another one becomes the leader when it leaves or is lost."""

    async def is_leader(self) -> bool:
        """Return whether this worker is the leader; it becomes the leader if there is none."""
        ...
