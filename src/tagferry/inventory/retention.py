"""Retention policies of repositories, on behalf of users."""

from collections.abc import Sequence

from tagferry.accounts.access import AccessControl
from tagferry.accounts.model import Caller, Permission, RepositoryRecord
from tagferry.automation.retention.history import Deletion, DeletionHistory
from tagferry.automation.retention.rules import ExpiredTag, RuleSet
from tagferry.automation.retention.runner import RetentionRunner
from tagferry.automation.retention.store import Policies, Policy
from tagferry.catalog import require_deletion
from tagferry.eventual import Progress
from tagferry.inventory.repositories import RepositoryInventory
from tagferry.names import RepositoryName
from tagferry.regions import Region


class RetentionInventory:
    """The retention policies of repositories, for callers of every API. A repository has at most one.

    Args:
        access: authorizes the caller.
        repositories: the repositories.
        policies: stores the policies.
        history: the deletions.
        runner: runs and plans policies.
    """

    def __init__(
        self,
        *,
        access: AccessControl,
        repositories: RepositoryInventory,
        policies: Policies,
        history: DeletionHistory,
        runner: RetentionRunner,
    ) -> None:
        self._access = access
        self._repositories = repositories
        self._policies = policies
        self._history = history
        self._runner = runner

    async def find(self, caller: Caller, region: Region, name: RepositoryName) -> Policy | None:
        """Return the policy of a repository, if it has one; raises NotFound and Denied."""
        return await self._policy(await self._readable(caller, region, name))

    async def create(self, caller: Caller, region: Region, name: RepositoryName, rules: RuleSet) -> int:
        """Create the policy of a repository, and run it; return its id.

        Raises:
            NotFound: the organization or the repository does not exist.
            Denied: the caller does not have the permission to manage the repository.
            Conflict: the repository has a policy.
            Unsupported: the registry does not support deletion.
        """
        await self._access.require(caller, region.id, name, Permission.MANAGE)
        await self._repositories.find_record(region, name)
        await require_deletion(region.store, name)
        record = await self._repositories.record_to_change(caller, region, name, Permission.MANAGE)
        created = await self._policies.create(record, rules)
        self._runner.wake()
        return created

    async def update(
        self, caller: Caller, region: Region, name: RepositoryName, policy_id: int, rules: RuleSet
    ) -> None:
        """Replace the rules of a policy, and run it; raises NotFound and Denied."""
        record = await self._repositories.record_to_change(caller, region, name, Permission.MANAGE)
        await self._policies.update(record, policy_id, rules)
        self._runner.wake()

    async def delete(self, caller: Caller, region: Region, name: RepositoryName, policy_id: int) -> None:
        """Delete a policy. The history of its deletions remains. Raises NotFound and Denied."""
        record = await self._repositories.record_to_change(caller, region, name, Permission.MANAGE)
        await self._policies.delete(record, policy_id)

    async def plan(
        self, caller: Caller, region: Region, name: RepositoryName, rules: RuleSet, *, progress: Progress | None = None
    ) -> list[ExpiredTag]:
        """Return the tags that these rules would delete now, oldest first, without deleting them.

        Args:
            caller: the caller.
            region: the region of the repository.
            name: the repository.
            rules: the rules to try.
            progress: the number of tags that were looked at; a registry over HTTP is asked for each of them.
        """
        policy = await self.find(caller, region, name)
        return await self._runner.plan(region.id, name, policy, rules.rules, progress=progress)

    async def deletions(
        self, caller: Caller, region: Region, name: RepositoryName, *, limit: int, offset: int = 0
    ) -> tuple[Sequence[Deletion], int]:
        """Return a page of the deletions by policies, newest first, and their total number."""
        record = await self._readable(caller, region, name)
        if record is None:
            return [], 0
        return await self._history.of_repository(record.id, limit=limit, offset=offset)

    async def _readable(self, caller: Caller, region: Region, name: RepositoryName) -> RepositoryRecord | None:
        await self._access.require(caller, region.id, name, Permission.READ)
        return await self._repositories.find_record(region, name)

    async def _policy(self, record: RepositoryRecord | None) -> Policy | None:
        return await self._policies.of_repository(record.id) if record is not None else None
