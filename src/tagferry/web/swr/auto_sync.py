"""`sync_repo`: rules for automatic synchronization."""

from fastapi import APIRouter, Depends, Response
from pydantic import AliasPath, BaseModel, ConfigDict, Field

from tagferry.automation.rules.store import Rule, RuleSpec
from tagferry.names import Namespace, RegionId, Repository, RepositoryRef
from tagferry.web.bodies import require_json
from tagferry.web.json_response import JSONResponse
from tagferry.web.response_models import CamelCaseModel, Time
from tagferry.web.swr.context import RequestContext, SwrContext
from tagferry.web.swr.paths import BELOW_REPOSITORY

router = APIRouter(tags=["automatic synchronization"])
_RULES = f"{BELOW_REPOSITORY}/sync_repo"


class _Target(BaseModel):
    model_config = ConfigDict(strict=True)

    remote_region_id: str = Field(alias="remoteRegionId", description="The target region.")
    remote_namespace: str = Field(alias="remoteNamespace", description="The target organization.")

    @property
    def region(self) -> RegionId:
        """Return the target region; raises InvalidName."""
        return RegionId(self.remote_region_id, field="remoteRegionId")

    @property
    def namespace(self) -> Namespace:
        """Return the target organization; raises InvalidName."""
        return Namespace(self.remote_namespace, field="remoteNamespace")


class CreateSyncRepoBody(_Target):
    """The body of CreateImageSyncRepo (SWR, "Creating an Automatic Image Synchronization Task", table 3)."""

    sync_auto: bool | None = Field(None, alias="syncAuto", description="If true, the rule is active.")
    override: bool | None = Field(None, description="If true, replace a different image with the same tag.")


class DeleteSyncRepoBody(_Target):
    """The body of DeleteImageSyncRepo."""


class SyncRepoItem(CamelCaseModel):
    """A rule for automatic synchronization."""

    id: int
    created_at: Time
    updated_at: Time
    domain_id: str = Field(serialization_alias="domainID")
    domain_name: str
    namespace: str = Field(validation_alias=AliasPath("source", "namespace"))
    repository: str = Field(validation_alias=AliasPath("source", "repository"), serialization_alias="repoName")
    target_namespace: str = Field(serialization_alias="remoteNamespace")
    target_region: str = Field(serialization_alias="remoteRegionId")
    override: bool
    sync_auto: bool


@router.post(_RULES, operation_id="CreateImageSyncRepo", dependencies=[Depends(require_json)])
async def create(namespace: str, repository: str, body: CreateSyncRepoBody, context: RequestContext) -> Response:
    """Create a rule that synchronizes images when they are pushed. Updates an existing rule with the same target."""
    spec = RuleSpec(
        caller=context.caller,
        source=_source(namespace, repository, context),
        target_region=body.region,
        target_namespace=body.namespace,
        override=bool(body.override),
        sync_auto=bool(body.sync_auto),
    )
    await context.services.rules.put(spec)
    return JSONResponse({})


@router.get(_RULES, operation_id="ListImageAutoSyncReposDetails", response_model=list[SyncRepoItem])
async def list_all(namespace: str, repository: str, context: RequestContext) -> list[Rule]:
    """List the rules of a repository, oldest first."""
    source = _source(namespace, repository, context)
    return await context.services.rules.of_repository(context.caller, source)


@router.delete(_RULES, operation_id="DeleteImageSyncRepo", dependencies=[Depends(require_json)])
async def delete(namespace: str, repository: str, body: DeleteSyncRepoBody, context: RequestContext) -> Response:
    """Delete a rule. Syncs that it has started continue."""
    source = _source(namespace, repository, context)
    await context.services.rules.delete(context.caller, source, body.region, body.namespace)
    return JSONResponse({})


def _source(namespace: str, repository: str, context: SwrContext) -> RepositoryRef:
    return RepositoryRef(context.region.id, Namespace(namespace), Repository.from_path(repository))
