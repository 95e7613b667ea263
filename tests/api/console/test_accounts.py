"""The own account, and users as administrators manage them."""

import pytest
import structlog

from tagferry.app import DEFAULT_DOMAIN
from tests.support.browser import Browser, Page, text_of
from tests.support.deployment import NORTH, Deployment

COOKIE = "tagferry-session"
PASSWORD, NEW_PASSWORD = "a long enough password", "another long password"


@pytest.fixture
async def user(ferry: Deployment) -> Browser:
    """A browser in which an ordinary user, wang.fang, is signed in."""
    await ferry.app.services.iam.users.create("wang.fang", PASSWORD, domain=DEFAULT_DOMAIN)
    browser = Browser(ferry.urls[NORTH])
    await browser.sign_in("wang.fang", PASSWORD)
    return browser


def keys_on(page: Page) -> list[str]:
    return [row[0] for row in page.rows()]


async def test_users_change_their_password_and_stay_signed_in_only_here(ferry: Deployment, user: Browser):
    elsewhere = Browser(user.url)
    await elsewhere.sign_in("wang.fang", PASSWORD)
    page = await user.get("/console/account")

    fields = {"current": PASSWORD, "password": NEW_PASSWORD, "repeated": NEW_PASSWORD}
    changed = await user.submit(page, "/console/account/password", fields)

    assert "Your password was changed" in changed.text
    assert (await user.get("/console/account")).status == 200
    assert (await elsewhere.get("/console/account")).status == 303
    assert (await elsewhere.sign_in("wang.fang", PASSWORD)).status == 401
    assert (await elsewhere.sign_in("wang.fang", NEW_PASSWORD)).status == 200


@pytest.mark.parametrize(
    ("fields", "field", "problem"),
    [
        ({"current": "wrong", "password": NEW_PASSWORD, "repeated": NEW_PASSWORD}, "current", "not the current"),
        ({"current": PASSWORD, "password": NEW_PASSWORD, "repeated": "x"}, "repeated", "differs from the new"),
        ({"current": PASSWORD, "password": "short", "repeated": "short"}, "password", "must be at least"),
        ({"current": PASSWORD, "password": PASSWORD, "repeated": PASSWORD}, "password", "must differ"),
    ],
    ids=["current", "repeated", "short", "same"],
)
async def test_a_refused_password_is_explained_at_its_field(
    user: Browser, fields: dict[str, str], field: str, problem: str
):
    page = await user.submit(await user.get("/console/account"), "/console/account/password", fields)

    assert page.status == 400
    assert problem in text_of(page.one(f"p[@id='{field}-problem']"))
    assert not [one.get("value") for one in page.all("input[@type='password']") if one.get("value")]
    assert (await user.get("/console/account")).status == 200


async def test_guessing_the_current_password_in_the_console_locks_as_signing_in_does(user: Browser):
    wrong = {"current": "wrong", "password": NEW_PASSWORD, "repeated": NEW_PASSWORD}
    statuses = [(await user.post("/console/account/password", wrong)).status for _ in range(6)]

    assert statuses == [400] * 5 + [429]


async def test_a_new_key_is_shown_once_and_signs_requests(ferry: Deployment, user: Browser):
    page = await user.get("/console/account")
    assert "No access keys yet" in page.text

    made = await user.submit(page, "/console/account/keys", description="release <pipeline>")
    access_key, secret_key = [text_of(one) for one in made.all("section[@role='status']//code")]

    assert made.status == 201
    assert made.headers["Cache-Control"] == "no-store"
    later = await user.get("/console/account")
    assert keys_on(later) == [access_key]
    assert "release <pipeline>" in later.text
    assert secret_key not in later.html
    caller = await ferry.app.services.iam.authenticator.by_secret_key(access_key, secret_key, address="127.0.0.1")
    assert caller.name == "wang.fang"


async def test_a_user_has_as_many_keys_as_the_api_allows(user: Browser):
    answers = [(await user.post("/console/account/keys", {"description": str(at)})) for at in range(3)]

    assert [one.status for one in answers] == [201, 201, 409]
    assert "delete one first" in answers[2].text


async def test_keys_are_disabled_enabled_and_deleted_after_a_question(ferry: Deployment, user: Browser):
    await user.post("/console/account/keys")
    (access_key,) = keys_on(await user.get("/console/account"))
    at = f"/console/account/keys/{access_key}"

    for state in ("disabled", "enabled"):
        page = await user.submit(await user.get("/console/account"), at)
        assert f"The access key is {state}." in page.text
        assert page.rows()[0][2] == state

    asked = await user.get(f"{at}/delete")
    assert access_key in asked.heading
    assert keys_on(await user.get("/console/account")) == [access_key]
    page = await user.submit(asked, f"{at}/delete")
    assert "The access key was deleted." in page.text
    assert keys_on(page) == []


async def test_others_neither_see_nor_change_the_keys_and_users_of_administrators(ferry: Deployment, user: Browser):
    key, admin = ferry.admin.key.access_key, await ferry.app.services.iam.users.find(ferry.admin.name)
    for path, status in (
        ("/console/users", 403),
        ("/console/users/new", 403),
        (f"/console/users/{admin.user_id}", 403),
        (f"/console/users/{admin.user_id}/delete", 403),
        (f"/console/account/keys/{key}/delete", 404),
    ):
        assert (await user.get(path)).status == status, path
    for path, status in (
        ("/console/users", 403),
        (f"/console/users/{admin.user_id}", 403),
        (f"/console/users/{admin.user_id}/delete", 403),
        (f"/console/users/{admin.user_id}/keys", 403),
        (f"/console/account/keys/{key}", 404),
        (f"/console/account/keys/{key}/delete", 404),
    ):
        fields = {"name": "x", "password": PASSWORD, "enabled": "false"}
        assert (await user.post(path, fields)).status == status, path


async def test_administrators_create_change_and_delete_users(administrator: Browser):
    form = await administrator.get("/console/users/new")
    page = await administrator.submit(
        form, "/console/users", name="li.lei", password=PASSWORD, description="for <builds>"
    )
    assert (page.status, page.heading) == (200, "li.lei")
    assert "The user li.lei was created." in page.text
    at = page.path

    user = Browser(administrator.url)
    await user.sign_in("li.lei", PASSWORD)
    await administrator.post(at, {"enabled": "false"})
    assert (await user.get("/console/account")).status == 303
    await administrator.post(at, {"enabled": "true"})
    await administrator.post(at, {"password": NEW_PASSWORD})
    assert (await user.sign_in("li.lei", NEW_PASSWORD)).status == 200

    made = await administrator.post(f"{at}/keys", {"description": "ci"})
    assert made.status == 201
    (access_key,) = keys_on(made)
    await administrator.post(f"{at}/keys/{access_key}/delete")

    asked = await administrator.get(f"{at}/delete")
    listed = await administrator.submit(asked, f"{at}/delete")
    assert "The user li.lei was deleted." in listed.text
    assert [row[0] for row in listed.rows()] == ["admin"]
    assert (await administrator.get(at)).status == 404


async def test_a_refused_user_keeps_what_was_entered(administrator: Browser):
    for fields, status, field in (
        ({"name": "a b", "password": PASSWORD, "description": "x"}, 400, "name"),
        ({"name": "li.lei", "password": "short", "description": "x"}, 400, "password"),
        ({"name": "admin", "password": PASSWORD, "description": "x"}, 409, ""),
    ):
        page = await administrator.post("/console/users", fields)
        assert page.status == status
        assert page.one("input[@id='name']").get("value") == fields["name"]
        assert page.one("input[@id='description']").get("value") == "x"
        assert page.one("input[@id='password']").get("value") == ""
        assert bool(page.all(f"p[@id='{field}-problem']")) is bool(field)


async def test_the_last_administrator_cannot_be_disabled_or_deleted(ferry: Deployment, administrator: Browser):
    admin = await ferry.app.services.iam.users.find(ferry.admin.name)
    at = f"/console/users/{admin.user_id}"

    assert (await administrator.post(at, {"enabled": "false"})).status == 409
    assert (await administrator.post(f"{at}/delete")).status == 409


@pytest.mark.long
async def test_thousands_of_users_are_listed_by_pages_and_by_the_beginning_of_their_names(
    ferry: Deployment, administrator: Browser
):
    users = ferry.app.services.iam.users
    for number in range(60):
        await users.create(f"user-{number:03}", None, domain=DEFAULT_DOMAIN)

    seen: list[str] = []
    path = "/console/users?name=user-"
    while path:
        page = await administrator.get(path)
        seen += [row[0] for row in page.rows()]
        path = next((one.get("href", "") for one in page.all("a[@rel='next']")), "")

    assert seen == [f"user-{number:03}" for number in range(60)]
    assert "No user has such a name" in (await administrator.get("/console/users?name=zz%25")).text


async def test_changes_of_users_are_audited_with_the_user(ferry: Deployment, administrator: Browser):
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await administrator.post("/console/users", {"name": "li.lei", "password": PASSWORD})
        await administrator.post("/console/account/keys")

    audited = [(one["status"], one["user"], one["subject_user"]) for one in lines if one["event"] == "request"]
    assert audited == [(303, "admin", "li.lei"), (201, "admin", "admin")]
    assert PASSWORD not in str(lines)
