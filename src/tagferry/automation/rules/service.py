"""Create, list and delete rules on behalf of users."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tagferry.accounts.access import AccessControl
from tagferry.accounts.model import Caller
from tagferry.accounts.readable import ReadableRepositories
from tagferry.accounts.repositories import Repositories
from tagferry.automation.rules.store import CREATOR_IS_GONE, Rule, Rules, RuleSpec
from tagferry.automation.watch.baseline import read_baseline
from tagferry.errors import Denied, NotFound, TagferryError
from tagferry.names import Digest, Namespace, RegionId, RepositoryRef, Tag
from tagferry.regions import Regions
from tagferry.sync.authorization import authorize_source, authorize_sync, authorize_target

_AT_ONCE = 200
_INSPECTED = 1000


@dataclass(frozen=True, slots=True)
class RuleActions:
    """The actions on a rule that a caller is permitted.

    Attributes:
        can_change: whether it may be switched on and off, after which it acts on behalf of the caller.
        can_delete: whether it may be deleted.
    """

    can_change: bool
    can_delete: bool


class RuleService:
    """Manages rules for users, with authorization.

    Args:
        regions: the configured regions.
        access: authorizes the caller.
        repositories: the recorded repositories, with or without images.
        rules: stores the rules.
        on_rule_changed: called with the source of every created or updated rule.
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

    async def put(self, spec: RuleSpec) -> Rule:
        """Create a rule, or update the one with the same source and target; it then acts on behalf of this caller.

        When a rule is enabled, the tags that exist at its source count as handled.

        Raises:
            Invalid: the target region is unknown, or source and target are the same.
            NotFound: an organization or the source repository does not exist.
            Denied: the caller may not read the source or not write the target.
            Unavailable: the source's registry does not return its tags.
        """
        source = spec.source
        access = await authorize_sync(
            self._regions,
            self._access,
            spec.caller,
            repository=source.repository,
            source=(source.region, source.namespace),
            target=(spec.target_region, spec.target_namespace),
        )
        rule = await self._rules.put(
            spec,
            await self._baseline(source, with_tags=spec.sync_auto),
            source_organization_id=access.source.owner.id if access.source.owner else None,
            target_organization_id=access.target.owner.id if access.target.owner else None,
        )
        # A push after the baseline was read, and before the rule was stored, has to be detected by a scan.
        self._on_rule_changed(source)
        return rule

    async def of_repository(self, caller: Caller, source: RepositoryRef) -> list[Rule]:
        """Return the rules of a repository; guests see those of their own domain.

        Raises:
            NotFound: the organization does not exist.
            Denied: the caller may not read the repository.
        """
        access = await authorize_source(self._access, caller, (source.region, source.namespace), source.repository)
        rules = await self._rules.of_repository(source)
        return [rule for rule in rules if not access.is_guest or rule.domain_id == caller.domain_id]

    async def find(self, caller: Caller, rule_id: int) -> Rule:
        """Return a rule of a repository that the caller may read; raises NotFound."""
        rule = await self._rules.get(rule_id)
        if rule is None or not await self._may_see(caller, rule):
            raise NotFound("auto-sync rule", str(rule_id))
        return rule

    async def page(self, caller: Caller, *, after: int = 0, limit: int) -> tuple[list[Rule], int | None]:
        """Return rules of all repositories that the caller may read, oldest first, and the id for the next page.

        At most `_INSPECTED` rules are looked at, so a page may have fewer than `limit` and not be the last one.

        Args:
            caller: the caller.
            after: the id after which the page begins.
            limit: the maximum number of rules.
        """
        # Refusals are not remembered, so that each would cost a query.
        readable = {region.id: await self._access.readable(caller, region.id) for region in self._regions}
        with self._access.pinned():
            return await self._page(caller, after, limit, readable)

    async def _page(
        self, caller: Caller, after: int, limit: int, readable: Mapping[RegionId, ReadableRepositories]
    ) -> tuple[list[Rule], int | None]:
        found: list[Rule] = []
        inspected = 0
        while inspected < _INSPECTED:
            rules = await self._rules.page(after=after, limit=_AT_ONCE)
            for rule in rules:
                if len(found) == limit:
                    return found, after
                after = rule.id
                may_read = rule.source.region in readable and rule.source.name in readable[rule.source.region]
                if may_read and await self._may_see(caller, rule):
                    found.append(rule)
            if len(rules) < _AT_ONCE:
                return found, None
            inspected += len(rules)
        return found, after

    async def actions(self, caller: Caller, rule: Rule) -> RuleActions:
        """Return what the caller is permitted to do with a rule that it may see, as `put` and `delete` decide."""
        can_delete = True
        try:
            await self.authorize_deletion(caller, rule)
        except (Denied, NotFound):
            can_delete = False
        return RuleActions(can_change=not await self._blocked(rule, caller), can_delete=can_delete)

    async def blocked(self, rules: Sequence[Rule], creators: Mapping[str, Caller | None]) -> list[str]:
        """Return why each of these rules cannot start syncs now; "" for one that can.

        Args:
            rules: the rules.
            creators: the users on whose behalf they act, by their ids; None for one who was deleted or disabled.
        """
        # One check for all that what is remembered is still valid.
        with self._access.pinned():
            return [await self._blocked(rule, creators[rule.creator_id]) for rule in rules]

    async def _blocked(self, rule: Rule, creator: Caller | None) -> str:
        if creator is None:
            return CREATOR_IS_GONE
        try:
            await authorize_sync(
                self._regions,
                self._access,
                creator,
                repository=rule.source.repository,
                source=(rule.source.region, rule.source.namespace),
                target=(rule.target_region, rule.target_namespace),
            )
        except TagferryError as error:
            return error.message
        return ""

    async def _may_see(self, caller: Caller, rule: Rule) -> bool:
        source = rule.source
        if source.region not in self._regions:
            return False
        try:
            access = await authorize_source(self._access, caller, (source.region, source.namespace), source.repository)
        except (Denied, NotFound):
            return False
        return not access.is_guest or rule.domain_id == caller.domain_id

    async def delete(self, caller: Caller, source: RepositoryRef, region: RegionId, namespace: Namespace) -> None:
        """Delete a rule; allowed for its creator, and for users who may write its target.

        Raises:
            NotFound: the rule or an organization does not exist.
            Denied: the caller may not read the source, or not write the target.
        """
        access = await authorize_source(self._access, caller, (source.region, source.namespace), source.repository)
        rule = await self._rules.find(source, region, namespace)
        if rule is None or (access.is_guest and rule.domain_id != caller.domain_id):
            raise NotFound("rule", "", where=f'from "{source}" to "{region}/{namespace}"')
        await self.authorize_deletion(caller, rule)
        await self._rules.delete(rule.id)

    async def authorize_deletion(self, caller: Caller, rule: Rule) -> None:
        """Require the permission to delete a rule that the caller may see; raises NotFound and Denied."""
        if rule.creator_id != caller.user_id:
            target = (rule.target_region, rule.target_namespace)
            await authorize_target(self._access, caller, target, rule.source.repository)

    async def _baseline(self, source: RepositoryRef, *, with_tags: bool) -> dict[Tag, Digest]:
        """Return the tags of the source if the rule is enabled, else nothing; raises NotFound if it does not exist."""
        if with_tags:
            return await read_baseline(self._regions, self._repositories, source)
        try:
            async for _ in self._regions[source.region].store.list_tags(source.name):
                break
        except NotFound:
            if await self._repositories.find(source.region, source.name) is None:
                raise
        return {}
