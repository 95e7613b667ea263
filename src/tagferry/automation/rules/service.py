"""Giving, showing and withdrawing the orders for automatic synchronization."""

from collections.abc import Callable

from tagferry.accounts.access import AccessControl
from tagferry.accounts.model import Caller
from tagferry.accounts.repositories import Repositories
from tagferry.automation.rules.store import Rule, Rules, RuleSpec
from tagferry.automation.watch.baseline import read_baseline
from tagferry.errors import NotFound
from tagferry.names import Digest, Namespace, RegionId, RepositoryRef, Tag
from tagferry.regions import Regions
from tagferry.sync.authorization import authorize_source, authorize_sync, authorize_target


class RuleService:
    """The face of rules towards people.

    Args:
        regions: what is known here.
        access: who may do what in their repositories.
        repositories: which were created, with or without images.
        rules: where they are kept.
        on_put: told of the source of every rule that was made or changed.
    """

    def __init__(
        self,
        *,
        regions: Regions,
        access: AccessControl,
        repositories: Repositories,
        rules: Rules,
        on_rule_changed: Callable[[RepositoryRef], None],
    ) -> None:
        self._regions = regions
        self._access = access
        self._repositories = repositories
        self._rules = rules
        self._on_rule_changed = on_rule_changed

    async def put(self, wish: RuleSpec) -> Rule:
        """Make a rule, or change the one that leads the same way; it then synchronizes in this caller's name.

        When a rule is switched on, the tags that stand at its source count as handled.

        Raises:
            Invalid: the target region is unknown, or the target is the source.
            NotFound: an organization or the source repository does not exist.
            Denied: the caller may not read the source or not write the target.
            Unavailable: the source's registry cannot be asked for its tags.
        """
        source = wish.source
        access = await authorize_sync(
            self._regions,
            self._access,
            wish.caller,
            repository=source.repository,
            source=(source.region, source.namespace),
            target=(wish.target_region, wish.target_namespace),
        )
        rule = await self._rules.put(
            wish,
            await self._baseline(source, with_tags=wish.sync_auto),
            source_organization_id=access.source.owner.id if access.source.owner else None,
            target_organization_id=access.target.owner.id if access.target.owner else None,
        )
        # What was pushed since the baseline was taken met no rule.
        self._on_rule_changed(source)
        return rule

    async def of_repository(self, caller: Caller, source: RepositoryRef) -> list[Rule]:
        """A repository's rules; guests are shown those of their own domain.

        Raises:
            NotFound: the organization does not exist.
            Denied: the caller may not read the repository.
        """
        access = await authorize_source(self._access, caller, (source.region, source.namespace), source.repository)
        rules = await self._rules.of_repository(source)
        return [rule for rule in rules if not access.is_guest or rule.domain_id == caller.domain_id]

    async def delete(self, caller: Caller, source: RepositoryRef, region: RegionId, namespace: Namespace) -> None:
        """End a rule; whose it is may do so, and who may write its target.

        Raises:
            NotFound: of the kind `rule`, or for an organization.
            Denied: the caller may not read the source, or not write the target.
        """
        access = await authorize_source(self._access, caller, (source.region, source.namespace), source.repository)
        rule = await self._rules.find(source, region, namespace)
        if rule is None or (access.is_guest and rule.domain_id != caller.domain_id):
            raise NotFound("rule", f"from {source} to {region}/{namespace}")
        if rule.creator_id != caller.user_id:
            await authorize_target(self._access, caller, (region, namespace), source.repository)
        await self._rules.delete(rule.id)

    async def _baseline(self, source: RepositoryRef, *, with_tags: bool) -> dict[Tag, Digest]:
        """What stands at a source, where the rule is to know it; it must exist in any case."""
        if with_tags:
            return await read_baseline(self._regions, self._repositories, source)
        try:
            async for _ in self._regions[source.region].store.list_tags(source.name):
                break
        except NotFound:
            if await self._repositories.find(source.region, source.name) is None:
                raise
        return {}
