"""Retention policies, which delete tags of a repository automatically."""

import asyncio
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AliasPath, BaseModel, ConfigDict, Field

from tagferry.automation.retention.history import Deletion
from tagferry.automation.retention.rules import RuleSet
from tagferry.automation.retention.store import Policy, policy_not_found
from tagferry.errors import Invalid
from tagferry.names import RepositoryName
from tagferry.web.bodies import require_json
from tagferry.web.formats import date
from tagferry.web.items import Items
from tagferry.web.json_response import JSONResponse
from tagferry.web.response_models import ResponseModel
from tagferry.web.swr.context import RequestContext, SwrContext
from tagferry.web.swr.paths import BELOW_REPOSITORY
from tagferry.web.swr.queries import Page, parse_filter

router = APIRouter(tags=["retention"])
_POLICIES = f"{BELOW_REPOSITORY}/retentions"
_POLICY = f"{_POLICIES}/{{retention_id}}"
_ALGORITHM = "or"

PolicyId = Annotated[int, Path(ge=1, le=10**18 - 1)]


class TagSelector(BaseModel):
    """An exception of a rule: a tag, or the tags that a regular expression matches anywhere."""

    model_config = ConfigDict(strict=True)

    kind: str = Field(description="`label` or `regexp`.")
    pattern: str = Field(description="The tag, or the regular expression.")


class RetentionParams(BaseModel):
    """The parameter of a rule, a string or a number."""

    model_config = ConfigDict(strict=True)

    days: Any = Field(None, description="For `date_rule`, 1 to 365: delete tags pushed earlier than that.")
    num: Any = Field(None, description="For `tag_rule`, 1 to 1000: delete all but the newest tags.")


class RetentionRule(BaseModel):
    """A rule that selects tags to delete."""

    model_config = ConfigDict(strict=True)

    template: str = Field(description="`date_rule` or `tag_rule`.")
    params: RetentionParams
    tag_selectors: Items[TagSelector] = Field([], description="Exceptions: tags that the rule ignores.")


class ShownRule(ResponseModel):
    """A rule of a policy."""

    template: str
    params: dict[str, str] = Field(description="`days` for `date_rule`, `num` for `tag_rule`.")
    tag_selectors: list[TagSelector]


class RetentionBody(BaseModel):
    """The body of CreateRetention, UpdateRetention and PlanRetention."""

    model_config = ConfigDict(strict=True)

    algorithm: str = Field(description="Must be `or`.")
    rules: Items[RetentionRule] = Field(description="A tag is deleted if any rule selects it.")

    async def parse(self) -> RuleSet:
        """Return the rules; raises Invalid."""
        if self.algorithm != _ALGORITHM:
            raise Invalid("algorithm", f"must be {_ALGORITHM}", self.algorithm)
        return await asyncio.to_thread(RuleSet.parse, [rule.model_dump() for rule in self.rules])


class RetentionCreated(ResponseModel):
    """The response of CreateRetention."""

    id: int


class RetentionShown(ResponseModel):
    """The response of ShowRetention, and an item of ListRetentions."""

    id: int
    algorithm: str
    rules: list[ShownRule]
    scope: str = Field(description="Always empty.")

    @classmethod
    def of(cls, policy: Policy) -> Self:
        """Return a policy as its operations show it."""
        rules = [ShownRule.model_validate(rule) for rule in policy.rules]
        return cls(id=policy.id, algorithm=_ALGORITHM, rules=rules, scope="")


class RetentionLog(ResponseModel):
    """A tag that a policy deleted."""

    id: int
    namespace: str
    repo: str
    retention_id: int = Field(description="The policy, which may have been deleted since.")
    rule_type: str
    tag: str
    created_at: str
    digest: str = Field(description="The digest that the tag pointed to.")

    @classmethod
    def of(cls, name: RepositoryName, deletion: Deletion) -> Self:
        """Return a deletion from this repository."""
        return cls(
            id=deletion.id,
            namespace=name.namespace,
            repo=name.repository,
            retention_id=deletion.policy_id,
            rule_type=deletion.template,
            tag=deletion.tag,
            created_at=date(deletion.created_at),
            digest=deletion.digest,
        )


class RetentionLogs(ResponseModel):
    """The response of ListRetentionHistories."""

    retention_log: list[RetentionLog]
    total: int


class PlannedDeletion(ResponseModel):
    """A tag that would be deleted."""

    tag: str = Field(validation_alias=AliasPath("record", "tag"))
    digest: str = Field(validation_alias=AliasPath("record", "digest"))
    rule_type: str = Field(
        validation_alias="template", description="The template of the first rule that selects the tag."
    )


class RetentionPlan(ResponseModel):
    """The response of PlanRetention."""

    tags: list[PlannedDeletion] = Field(description="The tags to delete, oldest first.")


@router.post(
    _POLICIES,
    operation_id="CreateRetention",
    status_code=201,
    dependencies=[Depends(require_json)],
)
async def create(namespace: str, repository: str, body: RetentionBody, context: RequestContext) -> RetentionCreated:
    """Create the retention policy of a repository, which has at most one. It runs at once, and then regularly."""
    name, rules = RepositoryName.from_path(namespace, repository), await body.parse()
    created = await context.services.retention_inventory.create(context.caller, context.region, name, rules)
    return RetentionCreated(id=created)


@router.get(_POLICIES, operation_id="ListRetentions")
async def list_all(namespace: str, repository: str, context: RequestContext) -> list[RetentionShown]:
    """List the retention policies of a repository. There is at most one."""
    policy = await _policy(context, namespace, repository)
    return [RetentionShown.of(policy)] if policy is not None else []


@router.post(
    f"{_POLICIES}/plan",
    operation_id="PlanRetention",
    dependencies=[Depends(require_json)],
)
async def plan(namespace: str, repository: str, body: RetentionBody, context: RequestContext) -> RetentionPlan:
    """Show which tags these rules would delete now, without deleting them. An extension of tagferry."""
    name, rules = RepositoryName.from_path(namespace, repository), await body.parse()
    planned = await context.services.retention_inventory.plan(context.caller, context.region, name, rules)
    return RetentionPlan(tags=planned)


@router.get(f"{_POLICIES}/histories", operation_id="ListRetentionHistories")
async def list_history(
    namespace: str,
    repository: str,
    context: RequestContext,
    limit: str | None = None,
    offset: str | None = None,
    filter_: Annotated[str | None, Query(alias="filter")] = None,
) -> RetentionLogs:
    """List the tags of a repository that policies have deleted, newest deletion first."""
    page = Page.parse({"limit": limit, "offset": offset, **parse_filter(filter_)})
    name = RepositoryName.from_path(namespace, repository)
    found, total = await context.services.retention_inventory.deletions(
        context.caller, context.region, name, limit=page.limit, offset=page.offset
    )
    context.response.headers.update(page.content_range(count=len(found), total=total))
    return RetentionLogs(retention_log=[RetentionLog.of(name, deletion) for deletion in found], total=total)


@router.get(_POLICY, operation_id="ShowRetention")
async def show(namespace: str, repository: str, retention_id: PolicyId, context: RequestContext) -> RetentionShown:
    """Show a retention policy."""
    policy = await _policy(context, namespace, repository)
    if policy is None or policy.id != retention_id:
        raise policy_not_found(retention_id)
    return RetentionShown.of(policy)


@router.patch(_POLICY, operation_id="UpdateRetention", status_code=201, dependencies=[Depends(require_json)])
async def update(
    namespace: str, repository: str, retention_id: PolicyId, body: RetentionBody, context: RequestContext
) -> Response:
    """Replace the rules of a retention policy. It runs at once."""
    name, rules = RepositoryName.from_path(namespace, repository), await body.parse()
    await context.services.retention_inventory.update(context.caller, context.region, name, retention_id, rules)
    return JSONResponse({}, status_code=201)


@router.delete(_POLICY, operation_id="DeleteRetention")
async def delete(namespace: str, repository: str, retention_id: PolicyId, context: RequestContext) -> Response:
    """Delete a retention policy. The history of its deletions remains."""
    name = RepositoryName.from_path(namespace, repository)
    await context.services.retention_inventory.delete(context.caller, context.region, name, retention_id)
    return JSONResponse({})


async def _policy(context: SwrContext, namespace: str, repository: str) -> Policy | None:
    name = RepositoryName.from_path(namespace, repository)
    return await context.services.retention_inventory.find(context.caller, context.region, name)
