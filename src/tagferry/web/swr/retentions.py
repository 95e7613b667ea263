"""Retention policies: which tags of a repository are deleted by themselves."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from tagferry.accounts.model import Permission, RepositoryRecord
from tagferry.automation.retention.history import Deletion
from tagferry.automation.retention.rules import RuleSet
from tagferry.automation.retention.store import Policy, policy_not_found
from tagferry.catalog import require_deletion
from tagferry.errors import Invalid
from tagferry.names import RepositoryName
from tagferry.web.bodies import require_json
from tagferry.web.context import Context, RequestContext
from tagferry.web.formats import date
from tagferry.web.items import Items
from tagferry.web.json_response import JSONResponse
from tagferry.web.swr.paths import BELOW_REPOSITORY
from tagferry.web.swr.permissions import find_record, record_to_manage
from tagferry.web.swr.queries import Page, parse_filter

router = APIRouter(tags=["retention"])
_POLICIES = f"{BELOW_REPOSITORY}/retentions"
_POLICY = f"{_POLICIES}/{{retention_id}}"
_ALGORITHM = "or"

PolicyId = Annotated[int, Path(ge=1, le=10**18 - 1)]


class TagSelector(BaseModel):
    """An exception of a rule: a tag, or tags in which a regular expression is found."""

    model_config = ConfigDict(strict=True)

    kind: str = Field(description="`label` or `regexp`.")
    pattern: str = Field(description="The tag, or the regular expression.")


class RetentionRule(BaseModel):
    """A rule that lets tags go."""

    model_config = ConfigDict(strict=True)

    template: str = Field(description="`date_rule` or `tag_rule`.")
    params: dict[str, Any] = Field(
        description="`days`, 1 to 365, for `date_rule`: what was pushed before goes; `num`, 1 to 1000, for `tag_rule`: "
        "all but so many of the newest go. A text or a number."
    )
    tag_selectors: Items[TagSelector] = Field([], description="The exceptions: tags that the rule does not look at.")


class RetentionBody(BaseModel):
    """The body of CreateRetention, UpdateRetention and PlanRetention."""

    model_config = ConfigDict(strict=True)

    algorithm: str = Field(description="Must be `or`.")
    rules: Items[RetentionRule] = Field(description="A tag goes if any of them lets it go.")

    async def parse(self) -> RuleSet:
        """The rules; raises Invalid."""
        if self.algorithm != _ALGORITHM:
            raise Invalid("algorithm", f"must be {_ALGORITHM}", self.algorithm)
        return await asyncio.to_thread(RuleSet.parse, [rule.model_dump() for rule in self.rules])


class RetentionCreated(BaseModel):
    """The answer of CreateRetention."""

    id: int


class RetentionShown(BaseModel):
    """The answer of ShowRetention, and an item of ListRetentions."""

    id: int
    algorithm: str
    rules: list[RetentionRule]
    scope: str = Field(description="Always empty.")


class RetentionLog(BaseModel):
    """A tag that a policy deleted."""

    id: int
    namespace: str
    repo: str
    retention_id: int = Field(description="The policy, which may have ended since.")
    rule_type: str
    tag: str
    created_at: str
    digest: str = Field(description="What the tag pointed to.")


class RetentionLogs(BaseModel):
    """The answer of ListRetentionHistories."""

    retention_log: list[RetentionLog]
    total: int


class PlannedDeletion(BaseModel):
    """A tag that would go."""

    tag: str
    digest: str
    rule_type: str = Field(description="The kind of the first rule that lets it go.")


class RetentionPlan(BaseModel):
    """The answer of PlanRetention."""

    tags: list[PlannedDeletion] = Field(description="The oldest first.")


@router.post(
    _POLICIES,
    operation_id="CreateRetention",
    status_code=201,
    response_model=RetentionCreated,
    dependencies=[Depends(require_json)],
)
async def create(namespace: str, repository: str, body: RetentionBody, context: RequestContext) -> dict[str, Any]:
    """Give a repository its one policy, which is carried out at once and then again and again."""
    name, rules = RepositoryName.from_path(namespace, repository), await body.parse()
    await context.services.access.require(context.caller, context.region.id, name, Permission.MANAGE)
    await find_record(context, name)
    await require_deletion(context.region.store, name)
    record = await record_to_manage(context, namespace, repository)
    created = await context.services.retention_policies.create(record, rules)
    context.services.retention.wake()
    return {"id": created}


@router.get(_POLICIES, operation_id="ListRetentions", response_model=list[RetentionShown])
async def list_all(namespace: str, repository: str, context: RequestContext) -> list[dict[str, Any]]:
    """List a repository's policies, of which there is one at most."""
    policy = await _policy(context, await _readable(context, namespace, repository))
    return [_shown(policy)] if policy is not None else []


@router.post(
    f"{_POLICIES}/plan",
    operation_id="PlanRetention",
    response_model=RetentionPlan,
    dependencies=[Depends(require_json)],
)
async def plan(namespace: str, repository: str, body: RetentionBody, context: RequestContext) -> dict[str, Any]:
    """Tell which tags would go by these rules now, and change nothing."""
    name, rules = RepositoryName.from_path(namespace, repository), (await body.parse()).rules
    policy = await _policy(context, await _readable(context, namespace, repository))
    planned = await context.services.retention.plan(context.region.id, name, policy, rules)
    return {
        "tags": [
            {"tag": one.record.tag, "digest": one.record.digest, "rule_type": one.template.value} for one in planned
        ]
    }


@router.get(f"{_POLICIES}/histories", operation_id="ListRetentionHistories", response_model=RetentionLogs)
async def list_history(
    namespace: str,
    repository: str,
    context: RequestContext,
    limit: str | None = None,
    offset: str | None = None,
    filter_: Annotated[str | None, Query(alias="filter")] = None,
) -> Response:
    """List the tags that policies have deleted in a repository, the last first."""
    page = Page.parse({"limit": limit, "offset": offset, **parse_filter(filter_)})
    name = RepositoryName.from_path(namespace, repository)
    record = await _readable(context, namespace, repository)
    found: list[Deletion] = []
    total = 0
    if record is not None:
        history = context.services.retention_history
        found, total = await history.of_repository(record.id, limit=page.limit, offset=page.offset)
    body = {"retention_log": [_log(name, deletion) for deletion in found], "total": total}
    return JSONResponse(body, headers=page.content_range(count=len(found), total=total))


@router.get(_POLICY, operation_id="ShowRetention", response_model=RetentionShown)
async def show(namespace: str, repository: str, retention_id: PolicyId, context: RequestContext) -> dict[str, Any]:
    """Show a policy."""
    policy = await _policy(context, await _readable(context, namespace, repository))
    if policy is None or policy.id != retention_id:
        raise policy_not_found(retention_id)
    return _shown(policy)


@router.patch(_POLICY, operation_id="UpdateRetention", status_code=201, dependencies=[Depends(require_json)])
async def update(
    namespace: str, repository: str, retention_id: PolicyId, body: RetentionBody, context: RequestContext
) -> Response:
    """Give a policy other rules, by which it is carried out at once."""
    rules = await body.parse()
    record = await record_to_manage(context, namespace, repository)
    await context.services.retention_policies.update(record, retention_id, rules)
    context.services.retention.wake()
    return JSONResponse({}, status_code=201)


@router.delete(_POLICY, operation_id="DeleteRetention")
async def delete(namespace: str, repository: str, retention_id: PolicyId, context: RequestContext) -> Response:
    """End a policy; what it has deleted stays on record."""
    record = await record_to_manage(context, namespace, repository)
    await context.services.retention_policies.delete(record, retention_id)
    return JSONResponse({})


async def _readable(context: Context, namespace: str, repository: str) -> RepositoryRecord | None:
    name = RepositoryName.from_path(namespace, repository)
    await context.services.access.require(context.caller, context.region.id, name, Permission.READ)
    return await find_record(context, name)


async def _policy(context: Context, record: RepositoryRecord | None) -> Policy | None:
    return await context.services.retention_policies.of_repository(record.id) if record is not None else None


def _shown(policy: Policy) -> dict[str, Any]:
    return {"id": policy.id, "algorithm": _ALGORITHM, "rules": list(policy.rules), "scope": ""}


def _log(name: RepositoryName, deletion: Deletion) -> dict[str, Any]:
    return {
        "id": deletion.id,
        "namespace": name.namespace,
        "repo": name.repository,
        "retention_id": deletion.policy_id,
        "rule_type": deletion.template.value,
        "tag": deletion.tag,
        "created_at": date(deletion.created_at),
        "digest": deletion.digest,
    }
