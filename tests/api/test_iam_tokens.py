"""IAM's tokens: got by other tokens, without a scope, checked and revoked; the catalog that is in them."""

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from tagferry.accounts.model import AccessKey, Permission
from tests.support.deployment import NORTH, SOUTH, Answer, Deployment, deployed

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKENS = "/v3/auth/tokens"
TEMPORARY = "/v3.0/OS-CREDENTIAL/securitytokens"
REGIONS = "/v2/manage/regions"
_numbers = itertools.count()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ferry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path_factory.mktemp("tokens")) as deployment:
        yield deployment


@pytest_asyncio.fixture(loop_scope="module")
async def carol(ferry: Deployment) -> str:
    """A new user who may read in `team`."""
    name = f"carol-{next(_numbers)}"
    await ferry.user(name, team=Permission.READ)
    return name


def password_of(name: str) -> dict[str, Any]:
    return {"user": {"name": name, "password": f"password of {name}"}}


def by_password(name: str) -> dict[str, Any]:
    return {"methods": ["password"], "password": password_of(name)}


def by_token(token: str) -> dict[str, Any]:
    return {"methods": ["token"], "token": {"id": token}}


def by_key(key: AccessKey) -> dict[str, Any]:
    return {
        "methods": ["hw_ak_sk"],
        "hw_ak_sk": {"access": {"key": key.access_key}, "secret": {"key": key.secret_key}},
    }


async def ask(ferry: Deployment, identity: dict[str, Any], scope: Any = None, query: str = "") -> Answer:
    auth = {"identity": identity} | ({} if scope is None else {"scope": scope})
    return await ferry.http("POST", f"{TOKENS}{query}", body={"auth": auth})


async def get(ferry: Deployment, identity: dict[str, Any], scope: Any = None) -> str:
    answer = await ask(ferry, identity, scope)
    assert answer.status == 201, answer.content
    return answer.headers["X-Subject-Token"]


async def about(ferry: Deployment, method: str, subject: str, token: str, query: str = "") -> Answer:
    """A question or an order about one token, with another or the same."""
    headers = {"X-Auth-Token": token, "X-Subject-Token": subject}
    return await ferry.http(method, f"{TOKENS}{query}", headers=headers)


async def lets_in(ferry: Deployment, token: str) -> bool:
    return (await ferry.http("GET", REGIONS, headers={"X-Auth-Token": token})).status == 200


async def test_a_token_is_got_by_a_token_for_another_scope_and_never_outlives_it(ferry: Deployment, carol: str) -> None:
    first = await ask(ferry, by_password(carol), "unscoped")
    ends = first.document["token"]["expires_at"]
    value = first.headers["X-Subject-Token"]
    for _ in range(3):
        with ferry.later(timedelta(hours=12)):
            answer = await ask(ferry, by_token(value), {"project": {"name": NORTH}})
        token = answer.document["token"]
        assert (token["methods"], token["project"]["name"]) == (["password", "token"], NORTH)
        assert token["expires_at"] == ends
        value = answer.headers["X-Subject-Token"]
        assert await lets_in(ferry, value)
    with ferry.later(timedelta(hours=24)):
        assert not await lets_in(ferry, value)
        assert (await ask(ferry, by_token(value))).refused()[:2] == (401, "SVCSTG.SWR.4010000")


async def test_a_password_and_a_token_are_given_together(ferry: Deployment, carol: str) -> None:
    token = await get(ferry, by_password(carol))
    for methods in (["password", "token"], ["token", "password"]):
        identity = {"methods": methods, "password": password_of(carol), "token": {"id": token}}
        answer = await ask(ferry, identity)
        assert (answer.status, answer.document["token"]["methods"]) == (201, ["password", "token"])
    wrong = {"user": {"name": carol, "password": "not the password"}}
    for identity in (
        {"methods": ["password", "token"], "password": wrong, "token": {"id": token}},
        {"methods": ["password", "token"], "password": password_of(carol), "token": {"id": "unknown"}},
        {"methods": ["password", "token"], "password": password_of(carol), "token": {"id": await ferry.token()}},
    ):
        assert (await ask(ferry, identity)).refused()[:2] == (401, "SVCSTG.SWR.4010000")
    missing = (await ask(ferry, {"methods": ["password", "token"], "password": password_of(carol)})).refused()
    assert missing == (400, "SVCSTG.SWR.4001014", "auth.identity.token is mandatory")


async def test_a_token_got_by_a_key_is_combined_with_that_key_only(ferry: Deployment, carol: str) -> None:
    key, other = await ferry.key(carol), await ferry.key(carol)
    token = await get(ferry, by_key(key))
    together = by_key(key) | {"methods": ["hw_ak_sk", "token"], "token": {"id": token}}
    assert (await ask(ferry, together)).document["token"]["methods"] == ["hw_ak_sk", "token"]
    for identity in (
        by_key(other) | {"methods": ["hw_ak_sk", "token"], "token": {"id": token}},
        by_password(carol) | {"methods": ["password", "token"], "token": {"id": token}},
    ):
        assert (await ask(ferry, identity)).refused()[0] == 401


async def test_a_user_is_identified_by_its_id_with_or_without_name_and_domain(ferry: Deployment, carol: str) -> None:
    user = await ferry.app.accounts.users.find(carol)
    password = f"password of {carol}"
    for given in (
        {"id": user.user_id},
        {"id": user.user_id, "name": carol},
        {"id": user.user_id, "name": ""},
        {"id": user.user_id, "domain": {"id": user.domain_id}},
        {"id": "", "name": carol, "domain": {"name": user.domain_name}},
    ):
        identity = {"methods": ["password"], "password": {"user": given | {"password": password}}}
        answer = await ask(ferry, identity)
        assert (answer.status, answer.document["token"]["user"]["id"]) == (201, user.user_id), given
    for given in (
        {"id": "0" * 32},
        {"id": carol},
        {"id": user.user_id, "name": "admin"},
        {"id": user.user_id, "domain": {"name": "elsewhere"}},
        {"id": "\x00"},
    ):
        identity = {"methods": ["password"], "password": {"user": given | {"password": password}}}
        assert (await ask(ferry, identity)).refused()[:2] == (401, "SVCSTG.SWR.4010000"), given
    for given in ({}, {"id": "", "name": ""}):
        identity = {"methods": ["password"], "password": {"user": given | {"password": password}}}
        assert (await ask(ferry, identity)).refused()[2] == "auth.identity.password.user.name is mandatory"


async def test_wrong_passwords_by_id_and_by_name_count_together_and_tell_no_name(ferry: Deployment, carol: str) -> None:
    user_id = (await ferry.app.accounts.users.find(carol)).user_id
    by_id = {"methods": ["password"], "password": {"user": {"id": user_id, "password": "wrong"}}}
    by_name = {"methods": ["password"], "password": {"user": {"name": carol, "password": "wrong"}}}
    for identity in (by_id, by_name, by_id, by_name, by_id):
        assert (await ask(ferry, identity)).status == 401
    assert (await ask(ferry, by_name)).status == 429
    status, _, message = (await ask(ferry, by_id)).refused()
    assert status == 429
    assert carol not in message
    unknown = {"methods": ["password"], "password": {"user": {"id": "f" * 32, "password": "wrong"}}}
    assert [(await ask(ferry, unknown)).status for _ in range(6)] == [401] * 5 + [429]


async def test_an_unscoped_token_is_for_nothing_in_particular_and_has_no_catalog(ferry: Deployment, carol: str) -> None:
    scopes: list[Any] = ["unscoped", {"unscoped": {}}]
    for scope in scopes:
        answer = await ask(ferry, by_password(carol), scope)
        value, token = answer.headers["X-Subject-Token"], answer.document["token"]
        assert set(token) == {"expires_at", "issued_at", "methods", "user"}
        assert (await about(ferry, "GET", value, value)).document == answer.document
        assert await lets_in(ferry, value)
    domain = (await ask(ferry, by_token(value))).document["token"]
    assert (domain["domain"]["name"], bool(domain["catalog"])) == ("tagferry", True)


@pytest.mark.parametrize(
    ("scope", "status", "names"),
    [
        ("everything", 400, "auth.scope must be a JSON object"),
        ({"system": {"all": True}}, 400, "auth.scope must be a project"),
        ({"OS-TRUST:trust": {"id": "x"}}, 400, "auth.scope must be a project"),
        ({"project": {"name": NORTH, "domain": {"name": "elsewhere"}}}, 404, 'domain "elsewhere" does not exist'),
        ({"project": {"name": NORTH, "domain": {"id": "0"}}}, 404, 'domain "0" does not exist'),
        (
            {"project": {"name": NORTH, "domain": {"name": "\ud800"}}},
            400,
            "auth.scope.project.domain.name must be text",
        ),
    ],
    ids=str,
)
async def test_a_scope_that_there_is_not_is_refused_by_name(
    ferry: Deployment, carol: str, scope: Any, status: int, names: str
) -> None:
    answer = (await ask(ferry, by_password(carol), scope)).refused()
    assert answer[0] == status
    assert answer[2].startswith(names)


async def test_a_project_is_chosen_by_its_name_in_the_users_domain(ferry: Deployment, carol: str) -> None:
    domain = (await ask(ferry, by_password(carol))).document["token"]["domain"]
    for given in ({"name": domain["name"]}, {"id": domain["id"]}, domain, {"name": ""}):
        answer = await ask(ferry, by_password(carol), {"project": {"name": SOUTH, "domain": given}})
        assert answer.document["token"]["project"]["name"] == SOUTH


async def test_a_revoked_token_is_refused_at_the_very_next_request(ferry: Deployment, carol: str) -> None:
    token, other = await get(ferry, by_password(carol)), await get(ferry, by_password(carol))
    assert (await about(ferry, "DELETE", token, other)).status == 204
    assert not await lets_in(ferry, token)
    assert await lets_in(ferry, other)
    for method in ("GET", "HEAD", "DELETE"):
        assert (await about(ferry, method, token, other)).status == 404
    assert (await about(ferry, "DELETE", other, other)).status == 204
    assert (await about(ferry, "DELETE", other, other)).status == 401


async def test_what_was_got_by_a_token_ends_when_it_is_revoked(ferry: Deployment, carol: str) -> None:
    first, other = await get(ferry, by_password(carol)), await get(ferry, by_password(carol))
    second = await get(ferry, by_token(first), {"project": {"name": NORTH}})
    third = await get(ferry, by_token(second) | {"methods": ["token", "password"], "password": password_of(carol)})
    key = await ferry.http("POST", TEMPORARY, body={"auth": {"identity": by_token(third)}})
    login = await ferry.http("POST", "/v2/manage/utils/secret", headers={"X-Auth-Token": third})
    assert (key.status, login.status) == (201, 200)
    (auth,) = login.document["auths"].values()
    registry = {"Authorization": f"Basic {auth['auth']}"}
    assert (await ferry.http("GET", "/v2/", headers=registry)).status == 200

    assert (await about(ferry, "DELETE", second, first)).status == 204
    assert [await lets_in(ferry, token) for token in (first, second, third, other)] == [True, False, False, True]
    assert (await ferry.http("GET", "/v2/", headers=registry)).status == 401
    credential = key.document["credential"]
    found = await ferry.app.services.iam.temporary.by_key(credential["access"], credential["securitytoken"])
    assert found is None


async def test_a_chain_of_tokens_of_any_length_is_revoked(ferry: Deployment, carol: str) -> None:
    tokens = [await get(ferry, by_password(carol))]
    for _ in range(30):
        tokens.append(await get(ferry, by_token(tokens[-1])))
    assert (await about(ferry, "DELETE", tokens[0], tokens[-1])).status == 204
    assert not any([await lets_in(ferry, token) for token in tokens])


async def test_tokens_got_by_tokens_end_with_the_password_or_the_key_as_the_first_did(
    ferry: Deployment, carol: str
) -> None:
    key = await ferry.key(carol)
    by_pass = await get(ferry, by_token(await get(ferry, by_password(carol))))
    by_secret = await get(ferry, by_token(await get(ferry, by_key(key))))
    user = await ferry.app.accounts.users.find(carol)
    await ferry.app.accounts.users.update(user.user_id, password="another password")
    assert [await lets_in(ferry, token) for token in (by_pass, by_secret)] == [False, True]
    await ferry.app.accounts.keys.delete(key.access_key)
    assert not await lets_in(ferry, by_secret)


async def test_a_token_is_revoked_by_its_owner_and_by_administrators_only(ferry: Deployment, carol: str) -> None:
    own, admin = await get(ferry, by_password(carol)), await ferry.token()
    assert (await about(ferry, "DELETE", admin, own)).refused()[:2] == (403, "SVCSTG.SWR.4039002")
    assert await lets_in(ferry, admin)
    assert (await about(ferry, "DELETE", own, admin)).status == 204
    missing = (await ferry.http("DELETE", TOKENS, headers={"X-Auth-Token": admin})).refused()
    assert missing == (400, "SVCSTG.SWR.4001014", "X-Subject-Token is mandatory")
    assert (await ferry.http("DELETE", TOKENS, headers={"X-Subject-Token": admin})).refused()[0] == 401


async def test_an_administrator_revokes_the_token_of_a_user_or_a_key_that_is_disabled(
    ferry: Deployment, carol: str
) -> None:
    key, admin = await ferry.key(carol), await ferry.token()
    user_id, accounts = (await ferry.app.accounts.users.find(carol)).user_id, ferry.app.accounts
    left, gone, by_secret = [await get(ferry, how) for how in (by_password(carol), by_password(carol), by_key(key))]
    await accounts.keys.update(key.access_key, enabled=False)
    await accounts.users.update(user_id, enabled=False)
    for token in (gone, by_secret):
        assert [(await about(ferry, method, token, admin)).status for method in ("GET", "DELETE")] == [404, 204]
        assert (await about(ferry, "DELETE", token, admin)).status == 404
    await accounts.users.update(user_id, enabled=True)
    await accounts.keys.update(key.access_key, enabled=True)
    assert [await lets_in(ferry, token) for token in (left, gone, by_secret)] == [True, False, False]


async def test_a_token_is_checked_without_a_body(ferry: Deployment, carol: str) -> None:
    own, admin = await get(ferry, by_password(carol)), await ferry.token()
    for token in (own, admin):
        answer = await about(ferry, "HEAD", own, token)
        assert (answer.status, answer.headers["X-Subject-Token"], answer.content) == (200, own, b"")
    assert (await about(ferry, "HEAD", "unknown", own)).status == 404
    assert (await about(ferry, "HEAD", admin, own)).status == 403


async def test_the_catalog_has_the_endpoints_of_the_region_that_was_asked(ferry: Deployment, carol: str) -> None:
    answer = await ask(ferry, by_password(carol), {"project": {"name": SOUTH}})
    catalog = answer.document["token"]["catalog"]
    urls = {service["type"]: [endpoint["url"] for endpoint in service["endpoints"]] for service in catalog}
    base = ferry.urls[NORTH]
    assert urls == {"identity": [f"{base}/v3"], "iam": [f"{base}/v3.0"], "swr": [base]}
    for service in catalog:
        (endpoint,) = service["endpoints"]
        assert (endpoint["interface"], endpoint["region"], endpoint["region_id"]) == ("public", NORTH, NORTH)
        assert service["id"]
        assert service["name"]
    ids = [service["id"] for service in catalog] + [service["endpoints"][0]["id"] for service in catalog]
    assert len(set(ids)) == 6
    token = answer.headers["X-Subject-Token"]
    shown = await ferry.http("GET", "/v3/auth/catalog", headers={"X-Auth-Token": token})
    assert shown.document["catalog"] == catalog
    south = await ferry.http("GET", "/v3/auth/catalog", region=SOUTH, headers={"X-Auth-Token": token})
    assert south.document["catalog"][0]["endpoints"][0]["url"] == f"{ferry.urls[SOUTH]}/v3"
    assert (await ferry.http("GET", "/v3/auth/catalog")).refused()[0] == 401


@pytest.mark.parametrize("query", ["?nocatalog", "?nocatalog=", "?nocatalog=1"])
async def test_the_catalog_is_left_out_where_it_is_not_wanted(ferry: Deployment, carol: str, query: str) -> None:
    answer = await ask(ferry, by_password(carol), query=query)
    token = answer.headers["X-Subject-Token"]
    assert "catalog" not in answer.document["token"]
    assert "catalog" not in (await about(ferry, "GET", token, token, query)).document["token"]
    assert "catalog" in (await about(ferry, "GET", token, token)).document["token"]


async def test_regions_are_listed_and_shown(ferry: Deployment, carol: str) -> None:
    headers = {"X-Auth-Token": await get(ferry, by_password(carol))}
    regions = (await ferry.http("GET", "/v3/regions", headers=headers)).document["regions"]
    assert [region["id"] for region in regions] == [NORTH, SOUTH]
    shown = await ferry.http("GET", f"/v3/regions/{SOUTH}", headers=headers)
    assert shown.document == {"region": regions[1]}
    assert (await ferry.http("GET", "/v3/regions/nowhere", headers=headers)).refused()[:2] == (404, "IAM.0004")


async def test_a_users_projects_are_listed_for_itself_and_administrators(ferry: Deployment, carol: str) -> None:
    user_id = (await ferry.app.accounts.users.find(carol)).user_id
    own = {"X-Auth-Token": await get(ferry, by_password(carol))}
    listed = (await ferry.http("GET", f"/v3/users/{user_id}/projects", headers=own)).document["projects"]
    assert listed == (await ferry.http("GET", "/v3/projects", headers=own)).document["projects"]
    admin = {"X-Auth-Token": await ferry.token()}
    assert (await ferry.http("GET", f"/v3/users/{user_id}/projects", headers=admin)).document["projects"] == listed
    other = (await ferry.app.accounts.users.find("admin")).user_id
    assert (await ferry.http("GET", f"/v3/users/{other}/projects", headers=own)).refused()[0] == 403


async def test_the_catalogs_services_and_endpoints_are_listed_and_shown(ferry: Deployment, carol: str) -> None:
    answer = await ask(ferry, by_password(carol))
    headers = {"X-Auth-Token": answer.headers["X-Subject-Token"]}
    catalog = answer.document["token"]["catalog"]
    services = (await ferry.http("GET", "/v3/services", headers=headers)).document["services"]
    assert [(one["id"], one["type"], one["name"]) for one in services] == [
        (one["id"], one["type"], one["name"]) for one in catalog
    ]
    endpoints = (await ferry.http("GET", "/v3/endpoints", headers=headers)).document["endpoints"]
    assert [(one["service_id"], one["url"]) for one in endpoints] == [
        (one["id"], one["endpoints"][0]["url"]) for one in catalog
    ]
    for kind, one in (("service", services[1]), ("endpoint", endpoints[2])):
        shown = await ferry.http("GET", f"/v3/{kind}s/{one['id']}", headers=headers)
        assert shown.document == {kind: one}
        assert (await ferry.http("GET", f"/v3/{kind}s/none", headers=headers)).refused()[:2] == (404, "IAM.0004")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("services?type=swr", ["swr"]),
        ("services?name=keystone", ["keystone"]),
        ("services?type=swr&name=iam", []),
        ("services?type=", ["keystone", "iam", "swr"]),
        ("endpoints?service_id={swr}", ["{swr}"]),
        ("endpoints?interface=public&region_id=cn-north-4", ["{keystone}", "{iam}", "{swr}"]),
        ("endpoints?interface=internal", []),
        ("endpoints?region_id=cn-north-208", []),
        ("regions?parent_region_id=cn-north-4", []),
        ("regions?parent_region_id=", [NORTH, SOUTH]),
        ("projects?enabled=true&name=cn-north-4", [NORTH]),
        ("projects?enabled=false", []),
        ("domains?enabled=0", []),
        ("domains?name=tagferry", ["tagferry"]),
        ("domains?name=elsewhere", []),
    ],
)
async def test_lists_are_filtered_as_openstacks_clients_ask(ferry: Deployment, query: str, found: list[str]) -> None:
    headers = {"X-Auth-Token": await ferry.token()}
    services = (await ferry.http("GET", "/v3/services", headers=headers)).document["services"]
    ids = {one["name"]: one["id"] for one in services}
    kind = query.partition("?")[0]
    listed = (await ferry.http("GET", f"/v3/{query.format(**ids)}", headers=headers)).document[kind]
    told_by = {"endpoints": "service_id", "regions": "id"}.get(kind, "name")
    assert [one[told_by] for one in listed] == [name.format(**ids) for name in found]


async def test_domains_are_listed_and_shown_all_to_administrators_their_own_to_others(
    ferry: Deployment, carol: str
) -> None:
    partner = await ferry.app.accounts.users.create(f"{carol}-partner", None, domain=f"{carol}-partners")
    admin, own = [{"X-Auth-Token": token} for token in (await ferry.token(), await get(ferry, by_password(carol)))]
    everything = (await ferry.http("GET", "/v3/domains", headers=admin)).document["domains"]
    assert {"tagferry", partner.domain_name} <= {domain["name"] for domain in everything}
    assert (await ferry.http("GET", "/v3/domains", headers=own)).document == (
        await ferry.http("GET", "/v3/auth/domains", headers=own)
    ).document
    for domain in everything:
        path = f"/v3/domains/{domain['id']}"
        assert (await ferry.http("GET", path, headers=admin)).document == {"domain": domain}
        assert (await ferry.http("GET", path, headers=own)).status == (200 if domain["name"] == "tagferry" else 404)
    assert (await ferry.http("GET", "/v3/domains/none", headers=admin)).refused()[:2] == (404, "IAM.0004")
