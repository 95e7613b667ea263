"""Login secrets: temporary passwords for a region's embedded registry."""

import base64
from datetime import timedelta

from fastapi import APIRouter

from tagferry.accounts.temporary import parse_lifetime
from tagferry.errors import Invalid, Unsupported
from tagferry.web.formats import date
from tagferry.web.response_models import ResponseModel
from tagferry.web.swr.context import RequestContext, SwrContext

router = APIRouter(tags=["login"])


class AuthInfo(ResponseModel):
    """`username:password` in base64, as in docker's `config.json`."""

    auth: str


class LoginSecrets(ResponseModel):
    """A registry's login, as the `auths` of docker's `config.json`."""

    auths: dict[str, AuthInfo]


@router.post("/v2/manage/utils/secret", operation_id="CreateSecret")
async def create_secret(
    context: RequestContext, projectname: str | None = None, duration_seconds: int | None = None
) -> LoginSecrets:
    """Create a login secret for the region's registry.

    The header `X-Swr-Dockerlogin` has a `docker login` command without the registry's host.
    """
    region = context.region.id
    if projectname not in (None, "", region):
        raise Invalid("projectname", f"must be the region's project, {region}", projectname)
    return await _login(context, region, duration_seconds)


@router.post("/v2/manage/utils/authorizationtoken", operation_id="CreateAuthorizationToken")
async def create_authorization_token(context: RequestContext) -> LoginSecrets:
    """Create a login secret for the region's registry, like CreateSecret."""
    return await _login(context, "bearertoken", None)


async def _login(context: SwrContext, prefix: str, seconds: int | None) -> LoginSecrets:
    region, settings = context.region, context.settings
    if not settings.regions[region.id].is_embedded:
        raise Unsupported(
            f"login secrets are only available for embedded registries; the registry of {region.id} is {region.url}, "
            "which has its own users"
        )
    lifetime = timedelta(hours=settings.limits.login_secret_lifetime_hours)
    if seconds is not None:
        lifetime = parse_lifetime("duration_seconds", seconds)
    secret = await context.services.temporary.create_login(context.caller, lifetime)
    username = f"{prefix}@{secret.access_key}"
    auth = base64.b64encode(f"{username}:{secret.password}".encode()).decode()
    context.response.headers.update(
        {
            "X-Swr-Dockerlogin": f"docker login -u {username} -p {secret.password}",
            "X-Swr-Expireat": date(secret.expires_at),
            "Cache-Control": "no-store",
        }
    )
    return LoginSecrets(auths={region.registry_host: AuthInfo(auth=auth)})
