"""Huawei Cloud SWR, basic edition."""

from tests.registries.access import Access
from tests.registries.contents import Ask
from tests.registries.server import Behavior, Registry
from tests.registries.vendor import Refusals, Vendor
from tests.support.scripted_registry import Reply, error


def _organization_of(name: str) -> str:
    return name.partition("/")[0]


def _absent(registry: Registry, ask: Ask) -> Reply | None:
    organizations = {_organization_of(name) for name in registry.contents.repositories}
    if ask.reads or not ask.repository or _organization_of(ask.repository) in organizations:
        return None
    return error(403, "DENIED", f"you do not have the permission to push to {_organization_of(ask.repository)}")


def _no_actions(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
    return reply if ask.repository and 'scope="' in reply.headers.get("WWW-Authenticate", "") else None


SWR = Vendor(
    name="Huawei Cloud SWR",
    page="swr",
    access=Access(
        username="cn-north-4@AK",
        realm="/swr/auth/v2/registry/auth/",
        service="dockyard",
        challenge_actions=False,
    ),
    access_source="support.huaweicloud.com, Obtaining a Long-Term Login or Image Push/Pull Command",
    behaviors=(
        Behavior(
            name="challenge without actions",
            effect="The challenge names the repository without the actions that are needed: `repository:org/name:`.",
            source="the answer of swr.cn-north-4.myhuaweicloud.com, as logged by public clients",
            afterwards=_no_actions,
            avoided="tagferry knows the actions, and authenticates first",
        ),
        Behavior(
            name="organizations are created first",
            effect="A push to an organization that does not exist is denied.",
            source="support.huaweicloud.com, Why Does an Image Fail to Be Pushed Through a Container Engine Client?",
            instead=_absent,
            refuses=True,
        ),
    ),
    refuses=Refusals(new_repository="permission to push"),
)
