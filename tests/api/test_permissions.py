"""The table of permissions: the API and the console agree, and pages offer exactly what one may do."""

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import pytest_asyncio
from fastapi import FastAPI
from starlette.routing import Match, Route

from tagferry.accounts.model import Permission
from tagferry.errors import Denied, NotFound
from tagferry.names import RepositoryName
from tagferry.web import swr
from tagferry.web.console import app as console
from tagferry.web.console.pages import images
from tests.permissions_page import PAGE, written
from tests.support.browser import Browser, Page
from tests.support.deployment import NORTH, SOUTH
from tests.support.permissions import ANONYMOUS, DONE, FOR_ALL, ONLY_API, ROLES, SHOWN, UseCase
from tests.support.roles import Roles, with_roles

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]

CASES = (*SHOWN, *DONE)
ROUTES = [*(route for module in console._PAGES for route in module.routes), *images.late_routes]
_SIGN_IN = "/console/sign-in"
_SAMPLES = 3
"""Addresses of the same page that are followed, such as pages of several users."""

Key = tuple[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def roles(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Roles]:
    async with with_roles(tmp_path_factory.mktemp("roles")) as roles:
        yield roles


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def untouched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Roles]:
    """The roles, for tests that change nothing."""
    async with with_roles(tmp_path_factory.mktemp("untouched")) as roles:
        await roles.someone(0)
        for role in ROLES:
            await roles.prepare("own key", role)
        yield roles


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.words)
async def test_the_api_and_the_console_let_each_role_do_what_the_table_says(roles: Roles, case: UseCase):
    by_api = {role: await _by_api(roles, role, case) for role in ROLES if case.api is not None}
    by_page = {role: await _by_page(roles, role, case) for role in ROLES if case.page}
    by_form = {role: await _by_form(roles, role, case) for role in ROLES if case.form}

    for found in filter(None, (by_api, by_page, by_form)):
        assert {role for role, is_allowed in found.items() if is_allowed} == case.roles


async def _by_api(roles: Roles, role: str, case: UseCase) -> bool:
    assert case.api is not None
    values = await roles.prepare(case.preparation, role)
    path, body = _filled(case.api.path, values), _filled(case.api.body, values)
    answer = await roles.ask(role, case.api.method, path, body, case.api.region)
    await _settle(roles, role, case)
    return _is_allowed(answer.status, answer.content.decode(), case)


async def _by_page(roles: Roles, role: str, case: UseCase) -> bool:
    page = await roles.browsers[role].complete(_filled(case.page, await roles.prepare(case.preparation, role)))
    if page.path.startswith(_SIGN_IN):
        return False
    return _is_allowed(page.status, page.text, case)


async def _by_form(roles: Roles, role: str, case: UseCase) -> bool:
    values = await roles.prepare(case.preparation, role)
    page = await roles.browsers[role].post(_filled(case.form, values), _filled(case.fields or {}, values))
    await _settle(roles, role, case)
    if page.status == 303:
        return not page.location.startswith(_SIGN_IN)
    if case.refusal and page.status == 200:
        return False
    return _is_allowed(page.status, "", case)


async def _settle(roles: Roles, role: str, case: UseCase) -> None:
    if case.preparation == "password":
        await roles.prepare("password", role)


def _is_allowed(status: int, text: str, case: UseCase) -> bool:
    # SWR answers 400 for a rule that does not exist, and so for one that must not be seen.
    is_hidden = status == 404 or (status == 400 and "does not exist" in text)
    assert status < 300 or is_hidden or status in (401, 403), (status, text)
    return status < 300 and case.shows in text and not (case.refusal and case.refusal in text.replace(" ", ""))


def _filled(template: Any, values: Mapping[str, Any]) -> Any:
    match template:
        case str() if template.startswith("{") and template[1:-1] in values:
            return values[template[1:-1]]
        case str():
            return template.format(**values) if "{" in template else template
        case list():
            return [_filled(one, values) for one in template]
        case dict():
            return {name: _filled(value, values) for name, value in template.items()}
    return template


@pytest.mark.parametrize("role", ROLES)
async def test_pages_offer_each_role_exactly_what_it_may_do(untouched: Roles, role: str):
    """Every link and every button of all pages leads to something that the role may do, and nothing is missing."""
    offered = await _offered(untouched.browsers[role])
    if role == ANONYMOUS:
        # The page for signing in leads to the first page, which leads back.
        offered -= {("GET", "/console/")}

    table = _table()
    assert offered - FOR_ALL - table.keys() == set(), "pages offer what the table does not have"
    wrong = {key: [case.words for case in table[key]] for key in offered - FOR_ALL if not _may(role, table[key])}
    assert wrong == {}, "pages offer what this role may not do"
    missing = {
        key: [case.words for case in cases]
        for key, cases in table.items()
        if key not in offered and any(role in _offered_to(case) for case in cases)
    }
    assert missing == {}, "no page offers what this role may do"


def _may(role: str, cases: list[UseCase]) -> bool:
    """Return whether pages may offer a route to a role. Lists are for all who may see anything in them at some time."""
    return any(
        case.shows or role in (case.roles if case.offered is None else case.offered or case.roles) for case in cases
    )


def _offered_to(case: UseCase) -> frozenset[str]:
    return case.roles if case.offered is None else case.offered


def _table() -> dict[Key, list[UseCase]]:
    """Return the use cases of each route: of pages, and of forms, with the names of their buttons."""
    table = defaultdict(list)
    for case in CASES:
        if case.page:
            table[_route("GET", _example(case.page))].append(case)
        if case.form:
            method, path = _route("POST", _example(case.form))
            table[method, f"{path}#{case.button}" if case.button else path].append(case)
    return table


def _example(path: str) -> str:
    return re.sub(r"\{\w+\}", "1", path)


def _route(method: str, address: str) -> Key:
    """Return the route of an address of the console."""
    scope = {"type": "http", "path": urlsplit(address).path, "method": method}
    for route in ROUTES:
        assert isinstance(route, Route)
        if route.matches(scope)[0] is Match.FULL:
            return method, route.path
    raise AssertionError(f"the console has no page {method} {address}")


async def _offered(browser: Browser) -> set[Key]:
    """Follow all links from the first page, and from what the search finds; returns all that pages offer."""
    waiting = ["/console/", "/console/images?q=app"]
    seen, offered = set(waiting), set()
    samples: defaultdict[tuple[Key, tuple[str, ...]], int] = defaultdict(int)
    while waiting:
        address = waiting.pop()
        page = await browser.complete(address)
        assert page.status == 200, f"a page links to {address}: {page.status} {page.text}"
        offered |= set(_forms(page))
        for link in page.all("a[@href]"):
            path = link.get("href", "").partition("#")[0]
            if not path.startswith("/console"):
                continue
            key = _route("GET", path)
            offered.add(key)
            kind = key, tuple(sorted({name for name, _ in parse_qsl(urlsplit(path).query)}))
            if path not in seen and samples[kind] < _SAMPLES:
                samples[kind] += 1
                seen.add(path)
                waiting.append(path)
    return offered


def _forms(page: Page) -> Iterator[Key]:
    for form in page.all("form[@action]"):
        key = _route(form.get("method", "get").upper(), form.get("action", ""))
        buttons = [one.get("value", "") for one in form.iter("button") if one.get("name") == "action"]
        yield from [(key[0], f"{key[1]}#{value}") for value in buttons] or [key]
        yield from (
            _route("GET", one.attrib["formaction"]) for one in form.iter("button") if "formaction" in one.attrib
        )


@pytest.mark.parametrize("role", [role for role in ROLES if role != ANONYMOUS])
async def test_what_one_may_write_is_known_all_at_once(untouched: Roles, role: str):
    """Lists ask for everything that one may write, where actions ask for one repository: both must agree."""
    access, caller = untouched.ferry.app.services.console.access, await untouched.caller(untouched.user(role))
    writable = await access.writable(caller)
    for region in (NORTH, SOUTH):
        for name in ("team/app", "team/new", "mirror/app", "mirror/new", "release/app", "unknown/app"):
            try:
                await access.require(caller, region, RepositoryName(name), Permission.EDIT)
            except (Denied, NotFound):
                assert not writable.contains(region, RepositoryName(name)), (region, name)
            else:
                assert writable.contains(region, RepositoryName(name)), (region, name)


async def test_the_table_has_every_page_and_every_form_of_the_console():
    routes = {(method, route.path) for route in ROUTES for method in route.methods - {"HEAD"}}
    known = {(method, path.partition("#")[0]) for method, path in _table()}
    assert routes - known - FOR_ALL == set()


async def test_the_table_has_every_operation_of_the_management_api_that_changes_something():
    api = FastAPI()
    swr.add_routes(api)
    swr.add_versions(api)
    operations = {
        (method.upper(), path)
        for path, methods in api.openapi()["paths"].items()
        for method in methods
        if path.startswith("/v2/manage/") and method not in ("get", "head")
    }
    unknown = {one for one in operations if not any(_is_of(one, case) for case in CASES)}
    assert unknown == ONLY_API


def _is_of(operation: Key, case: UseCase) -> bool:
    if case.api is None or case.api.method != operation[0]:
        return False
    return re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", operation[1]), _example(case.api.path)) is not None


async def test_the_table_of_the_documentation_is_up_to_date():
    page = PAGE.read_text("utf-8")
    assert page == written(page), "docs/security.md is out of date; write it with: python -m tests.permissions_page"
