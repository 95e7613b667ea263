"""Triggers, which call webhooks when tags of a repository change, and the agency, which tagferry does not need."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Self

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from tagferry.automation.triggers.deliveries import Delivery
from tagferry.automation.triggers.store import Trigger, TriggerSpec
from tagferry.errors import Denied, Invalid
from tagferry.names import RepositoryName
from tagferry.web.bodies import require_json
from tagferry.web.formats import date
from tagferry.web.json_response import JSONResponse
from tagferry.web.response_models import ResponseModel
from tagferry.web.swr.context import RequestContext
from tagferry.web.swr.paths import BELOW_REPOSITORY

router = APIRouter(tags=["triggers"])
_TRIGGERS = f"{BELOW_REPOSITORY}/triggers"
_TRIGGER = f"{_TRIGGERS}/{{trigger}}"
_AGENCY = "/v2/manage/agency"


class UpdateTriggerBody(BaseModel):
    """The body of UpdateTrigger."""

    model_config = ConfigDict(strict=True)

    enable: str = Field(description="The state of the trigger: the string `true` (enabled) or `false`.")

    @property
    def is_enabled(self) -> bool:
        """Return whether the trigger is enabled; raises Invalid."""
        if self.enable not in ("true", "false"):
            raise Invalid("enable", 'must be the string "true" or "false"', self.enable)
        return self.enable == "true"


class CreateTriggerBody(UpdateTriggerBody):
    """The body of CreateTrigger."""

    name: str = Field(description="1 to 64 letters, digits, `-` and `_`, starting with a letter.")
    action: str = Field(description="Must be `update`.")
    trigger_type: str = Field(description="`all`, `tag` or `regular`.")
    condition: str = Field(
        description="`.*` for `all`, tags separated by `;` for `tag`, a regular expression for `regular`."
    )
    app_type: str = Field(description="`deployments` or `statefulsets`.")
    application: str = Field(description="The application's name.")
    cluster_ns: str = Field(description="The application's namespace.")
    trigger_mode: str | None = Field(None, description="`cce` (default) or `cci`.")
    cluster_id: str | None = Field(None, description="The cluster's id; omitted or empty for `cci`.")
    cluster_name: str | None = Field(None, description="The cluster's name; omitted or empty for `cci`.")
    container: str | None = Field(None, description="The container to update; omitted or empty for all.")

    @property
    def spec(self) -> TriggerSpec:
        """Return the specification of the trigger; raises Invalid."""
        given = self.model_dump(exclude={"enable"}, exclude_none=True)
        spec = TriggerSpec(**given)
        spec.check()
        return spec


class _TriggerFields(ResponseModel):
    action: str
    app_type: str
    application: str
    cluster_id: str
    cluster_name: str
    cluster_ns: str
    condition: str
    container: str
    created_at: str
    creator_name: str


class TriggerHistory(_TriggerFields):
    """A call of a trigger. `event`, and the fields from `detail` on, are extensions of tagferry."""

    event: str = Field(description="`tag`, or `test` for a call that TestTrigger has made.")
    tag: str
    result: str = Field(description="`success`, `failed`, or `waiting` for its next attempt.")
    detail: str
    digest: str
    event_id: str = Field(serialization_alias="eventId")
    attempts: int
    pushed_by: str | None = Field(serialization_alias="pushedBy")

    @classmethod
    def of(cls, trigger: Trigger, delivery: Delivery) -> Self:
        """Return the call that a delivery is."""
        return cls(
            **asdict(trigger.spec),
            creator_name=trigger.creator_name,
            created_at=date(delivery.occurred_at),
            event=delivery.event,
            tag=delivery.tag,
            result=delivery.status,
            detail=delivery.detail,
            digest=delivery.digest,
            event_id=delivery.event_id,
            attempts=delivery.attempts,
            pushed_by=delivery.pushed_by,
        )


class TriggerShown(_TriggerFields):
    """A trigger with its calls, newest first."""

    name: str
    enable: str
    trigger_mode: str
    trigger_type: str
    trigger_history: list[TriggerHistory]

    @classmethod
    def of(cls, trigger: Trigger, deliveries: Iterable[Delivery]) -> Self:
        """Return a trigger with its calls."""
        return cls(
            **asdict(trigger.spec),
            creator_name=trigger.creator_name,
            created_at=date(trigger.created_at),
            enable="true" if trigger.enabled else "false",
            trigger_history=[TriggerHistory.of(trigger, delivery) for delivery in deliveries],
        )


class TestStarted(ResponseModel):
    """The response of TestTrigger."""

    event_id: str = Field(serialization_alias="eventId", description="The id of the call, in the trigger's history.")


class Agency(ResponseModel):
    """The response of CheckAgency."""

    domain_id: str
    is_agency: bool = Field(description="True if the configuration has webhooks for triggers.")


@router.post(_TRIGGERS, operation_id="CreateTrigger", status_code=201, dependencies=[Depends(require_json)])
async def create(namespace: str, repository: str, body: CreateTriggerBody, context: RequestContext) -> Response:
    """Create a trigger, which calls a webhook when certain tags of a repository change."""
    enabled, spec = body.is_enabled, body.spec
    name = RepositoryName.from_path(namespace, repository)
    await context.services.triggers.create(context.caller, context.region, name, spec, enabled=enabled)
    return JSONResponse({}, status_code=201)


@router.get(_TRIGGERS, operation_id="ListTriggersDetails")
async def list_all(namespace: str, repository: str, context: RequestContext) -> list[TriggerShown]:
    """List the triggers of a repository, oldest first. Guests see none."""
    name = RepositoryName.from_path(namespace, repository)
    return [TriggerShown.of(*one) for one in await context.services.triggers.all(context.caller, context.region, name)]


@router.get(_TRIGGER, operation_id="ShowTrigger")
async def show(namespace: str, repository: str, trigger: str, context: RequestContext) -> TriggerShown:
    """Show a trigger and its newest calls."""
    name = RepositoryName.from_path(namespace, repository)
    return TriggerShown.of(*await context.services.triggers.find(context.caller, context.region, name, trigger))


@router.patch(_TRIGGER, operation_id="UpdateTrigger", status_code=201, dependencies=[Depends(require_json)])
async def update(
    namespace: str, repository: str, trigger: str, body: UpdateTriggerBody, context: RequestContext
) -> Response:
    """Enable or disable a trigger."""
    enabled = body.is_enabled
    name = RepositoryName.from_path(namespace, repository)
    await context.services.triggers.switch(context.caller, context.region, name, trigger, enabled=enabled)
    return JSONResponse({}, status_code=201)


@router.post(f"{_TRIGGER}/test", operation_id="TestTrigger", status_code=202)
async def test(namespace: str, repository: str, trigger: str, context: RequestContext) -> TestStarted:
    """Call the webhook of a trigger once, with the event `test` and the newest image. An extension of tagferry.

    The trigger may be disabled. The result is in its history, usually within a second. Ten seconds have to pass between
    two tests of a trigger.
    """
    name = RepositoryName.from_path(namespace, repository)
    return TestStarted(event_id=await context.services.triggers.test(context.caller, context.region, name, trigger))


@router.delete(_TRIGGER, operation_id="DeleteTrigger", status_code=204)
async def delete(namespace: str, repository: str, trigger: str, context: RequestContext) -> Response:
    """Delete a trigger with its history and its waiting calls."""
    name = RepositoryName.from_path(namespace, repository)
    await context.services.triggers.delete(context.caller, context.region, name, trigger)
    return Response(status_code=204)


@router.get(_AGENCY, operation_id="CheckAgency")
async def check_agency(context: RequestContext) -> Agency:
    """Check whether triggers can call webhooks, for which SWR requires an agency."""
    return Agency(domain_id=context.caller.domain_id, is_agency=bool(context.settings.webhooks))


@router.post(_AGENCY, operation_id="CreateAgency", status_code=201)
async def create_agency(context: RequestContext) -> Response:
    """Succeed if the configuration has webhooks. Nothing is created."""
    if not context.settings.webhooks:
        raise Denied("triggers require [[webhooks]] in the server's configuration; ask its operator to add them")
    return JSONResponse({}, status_code=201)
