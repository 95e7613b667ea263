"""The unmodified SWR SDK gives, shows, changes and takes away permissions in organizations and repositories."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from huaweicloudsdkswr.v2 import (
    CreateNamespaceAuthRequest,
    CreateUserRepositoryAuthRequest,
    DeleteNamespaceAuthRequest,
    DeleteUserRepositoryAuthRequest,
    ListNamespacesRequest,
    ListRepositoryTagsRequest,
    ShowNamespaceAuthRequest,
    ShowNamespaceRequest,
    ShowUserRepositoryAuthRequest,
    UpdateNamespaceAuthRequest,
    UpdateUserRepositoryAuthRequest,
    UserAuth,
)

from tagferry.accounts.model import Permission
from tagferry.names import Tag
from tests.support import images
from tests.support.deployment import NORTH, Deployment, deployed, name_in
from tests.support.sdk_calls import ask, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

REPOSITORY = "shop/web"
FORBIDDEN, ORGANIZATION_MISSING, REPOSITORY_MISSING = (
    (403, "SVCSTG.SWR.4039002"),
    (404, "SVCSTG.SWR.4040058"),
    (404, "SVCSTG.SWR.4040010"),
)
USER_MISSING, OTHER_MISSING, THERE_ALREADY, BAD = (
    (404, "IAM.0004"),
    (404, "SVCSTG.SWR.4040000"),
    (409, "SVCSTG.SWR.4090000"),
    (400, "SVCSTG.SWR.4000014"),
)


class Operations:
    """The four operations on the permissions in one kind of thing."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.in_repository = kind == "UserRepository"
        self.requests: dict[str, Any] = {
            "create": CreateUserRepositoryAuthRequest if self.in_repository else CreateNamespaceAuthRequest,
            "show": ShowUserRepositoryAuthRequest if self.in_repository else ShowNamespaceAuthRequest,
            "update": UpdateUserRepositoryAuthRequest if self.in_repository else UpdateNamespaceAuthRequest,
            "delete": DeleteUserRepositoryAuthRequest if self.in_repository else DeleteNamespaceAuthRequest,
        }

    def call(self, verb: str, *, namespace: str = "team", repository: str = REPOSITORY, **more: Any) -> tuple[str, Any]:
        """The SDK's method and its request."""
        fields = {"namespace": namespace, **more}
        if self.in_repository:
            fields["repository"] = repository.replace("/", "$")
        method = f"{verb}_user_repository_auth" if self.in_repository else f"{verb}_namespace_auth"
        return method, self.requests[verb](**fields)


@pytest.fixture(params=["Namespace", "UserRepository"])
def operations(request: pytest.FixtureRequest) -> Operations:
    return Operations(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """An image in `team/shop/web`, of which nothing was said yet; `editor` may write `team`."""
    async with deployed(tmp_path_factory.mktemp("permissions")) as deployment:
        await images.push(deployment.store(NORTH), name_in("team", REPOSITORY), images.image(), Tag("v1"))
        await deployment.user("editor", team=Permission.EDIT)
        yield deployment


async def new_user(ferry: Deployment, operations: Operations, name: str) -> tuple[str, Any]:
    """A user without any permission; gives its id and its access key."""
    name = f"{name}-{operations.kind}"
    _, key = await ferry.user(name)
    return (await ferry.app.accounts.users.find(name)).user_id, key


async def id_of(ferry: Deployment, name: str) -> str:
    return (await ferry.app.accounts.users.find(name)).user_id


async def test_a_permission_is_given_shown_changed_and_taken_away(ferry: Deployment, operations: Operations) -> None:
    user_id, key = await new_user(ferry, operations, "carol")
    name = f"carol-{operations.kind}"

    async def others() -> list[tuple[str, str, int]]:
        shown = await ask(ferry, *operations.call("show"))
        return [(one.user_id, one.user_name, one.auth) for one in shown.others_auths if one.user_name == name]

    listing = ListRepositoryTagsRequest(namespace="team", repository=REPOSITORY.replace("/", "$"))
    assert (await refused(ferry, "list_repository_tags", listing, key=key))[:2] == FORBIDDEN
    wish = UserAuth(user_id=user_id, user_name=name, auth=1)
    await ask(ferry, *operations.call("create", body=[wish]))
    assert await others() == [(user_id, name, 1)]
    assert [one.tag for one in (await ask(ferry, "list_repository_tags", listing, key=key)).body] == ["v1"]

    await ask(ferry, *operations.call("update", body=[UserAuth(user_id=user_id, auth=3)]))
    assert await others() == [(user_id, name, 3)]
    mine = await ask(ferry, *operations.call("show"), key=key)
    assert (mine.self_auth.user_id, mine.self_auth.user_name, mine.self_auth.auth) == (user_id, name, 3)
    assert user_id not in [one.user_id for one in mine.others_auths]

    await ask(ferry, *operations.call("delete", body=[user_id]))
    assert await others() == []
    assert (await refused(ferry, "list_repository_tags", listing, key=key))[:2] == FORBIDDEN


async def test_what_is_shown_says_what_it_is_about(ferry: Deployment) -> None:
    shown = await ask(ferry, "show_namespace_auth", ShowNamespaceAuthRequest(namespace="team"))
    organization = await ask(ferry, "show_namespace", ShowNamespaceRequest(namespace="team"))
    assert (shown.id, shown.name, shown.creator_name) == (organization.id, "team", "admin")
    assert (shown.self_auth.user_name, shown.self_auth.auth) == ("admin", 7)
    assert ("editor", 3) in [(one.user_name, one.auth) for one in shown.others_auths]

    request = ShowUserRepositoryAuthRequest(namespace="team", repository="shop$web")
    shown = await ask(ferry, "show_user_repository_auth", request)
    assert (shown.name, shown.self_auth.auth) == (REPOSITORY, 7)
    assert shown.id > 0
    assert "editor" not in [one.user_name for one in shown.others_auths]


async def test_an_organization_is_listed_once_it_may_be_read_and_a_permission_in_a_repository_does_not_show_it(
    ferry: Deployment,
) -> None:
    user_id, key = await new_user(ferry, Operations("Namespace"), "lister")
    await ask(ferry, *Operations("UserRepository").call("create", body=[UserAuth(user_id=user_id, auth=7)]))
    assert (await ask(ferry, "list_namespaces", ListNamespacesRequest(), key=key)).namespaces == []
    refusal = await refused(ferry, "show_namespace", ShowNamespaceRequest(namespace="team"), key=key)
    assert refusal[:2] == FORBIDDEN
    await ask(ferry, *Operations("Namespace").call("create", body=[UserAuth(user_id=user_id, auth=1)]))
    listed = (await ask(ferry, "list_namespaces", ListNamespacesRequest(), key=key)).namespaces
    assert [(one.name, one.auth) for one in listed] == [("team", 1)]


async def test_several_users_are_given_permissions_all_or_none(ferry: Deployment, operations: Operations) -> None:
    first, _ = await new_user(ferry, operations, "first")
    second, _ = await new_user(ferry, operations, "second")
    unknown = "0" * 32
    wishes = [UserAuth(user_id=first, auth=1), UserAuth(user_id=unknown, auth=1)]
    assert (await refused(ferry, *operations.call("create", body=wishes)))[:2] == USER_MISSING

    await ask(
        ferry, *operations.call("create", body=[UserAuth(user_id=first, auth=1), UserAuth(user_id=second, auth=7)])
    )
    code = await refused(ferry, *operations.call("delete", body=[first, unknown]))
    assert code[:2] == OTHER_MISSING
    held = {one.user_id: one.auth for one in (await ask(ferry, *operations.call("show"))).others_auths}
    assert (held[first], held[second]) == (1, 7)
    await ask(ferry, *operations.call("delete", body=[first, second]))


async def test_who_has_a_permission_is_not_given_another_and_who_has_none_keeps_none(
    ferry: Deployment, operations: Operations
) -> None:
    user_id, _ = await new_user(ferry, operations, "again")
    wish = [UserAuth(user_id=user_id, auth=1)]
    status, code, message = await refused(ferry, *operations.call("update", body=wish))
    assert (status, code) == OTHER_MISSING
    assert user_id in message
    assert (await refused(ferry, *operations.call("delete", body=[user_id])))[:2] == OTHER_MISSING
    await ask(ferry, *operations.call("create", body=wish))
    status, code, message = await refused(ferry, *operations.call("create", body=wish))
    assert (status, code) == THERE_ALREADY
    assert f'user "again-{operations.kind}" already has a permission there' in message


@pytest.mark.parametrize("verb", ["create", "update", "delete"])
async def test_only_managers_change_permissions(ferry: Deployment, operations: Operations, verb: str) -> None:
    key = await ferry.key("editor")
    editor = await id_of(ferry, "editor")
    body = [editor] if verb == "delete" else [UserAuth(user_id=editor, auth=7)]
    assert (await refused(ferry, *operations.call(verb, body=body), key=key))[:2] == FORBIDDEN
    assert (await ask(ferry, *operations.call("show"), key=key)).self_auth.auth == 3


@pytest.mark.parametrize("verb", ["create", "show", "update", "delete"])
async def test_what_does_not_exist_is_told(ferry: Deployment, operations: Operations, verb: str) -> None:
    editor = await id_of(ferry, "editor")
    body = {"show": {}, "delete": {"body": [editor]}}.get(verb, {"body": [UserAuth(user_id=editor, auth=1)]})
    assert (await refused(ferry, *operations.call(verb, namespace="nowhere", **body)))[:2] == ORGANIZATION_MISSING
    if operations.in_repository:
        assert (await refused(ferry, *operations.call(verb, repository="no", **body)))[:2] == REPOSITORY_MISSING
        assert await ferry.app.services.swr.repositories.find(NORTH, name_in("team", "no")) is None


@pytest.mark.parametrize(
    ("verb", "body", "code", "told"),
    [
        (
            "create",
            [UserAuth(user_id=str(n), auth=1) for n in range(501)],
            "4000014",
            "body must name at most 500 users",
        ),
        ("create", [UserAuth(user_id="a", auth=2)], "4000014", "body[0].auth must be 7 (manage), 3 (edit) or 1 (read)"),
        ("update", [UserAuth(user_id="a", auth=0)], "4000014", "body[0].auth must be 7 (manage), 3 (edit) or 1 (read)"),
        ("create", [UserAuth(auth=1)], "4001014", "user_id"),
        ("update", [UserAuth(user_id="a")], "4001014", "auth"),
        ("create", [UserAuth(user_id="a", auth=1), UserAuth(user_id="a", auth=3)], "4000014", "body[1] must not name"),
        ("create", [UserAuth(user_id="a", auth="7")], "4001018", "auth must be a number"),
        ("create", {"user_id": "a", "auth": 1}, "4001018", "body must be an array"),
        ("delete", ["a"] * 501, "4000014", "body must name at most 500 users"),
        ("delete", [7], "4001018", "must be a string"),
    ],
)
async def test_a_body_that_breaks_a_rule_is_refused_by_the_name_of_what_is_wrong(
    ferry: Deployment, operations: Operations, verb: str, body: Any, code: str, told: str
) -> None:
    before = await ask(ferry, *operations.call("show"))
    status, found, message = await refused(ferry, *operations.call(verb, body=body))
    assert (status, found) == (400, f"SVCSTG.SWR.{code}")
    assert told in message
    assert await ask(ferry, *operations.call("show")) == before


async def test_a_user_who_is_named_wrongly_is_not_found(ferry: Deployment, operations: Operations) -> None:
    editor = await id_of(ferry, "editor")
    wish = [UserAuth(user_id=editor, user_name="somebody", auth=7)]
    assert (await refused(ferry, *operations.call("create", body=wish)))[:2] == USER_MISSING
