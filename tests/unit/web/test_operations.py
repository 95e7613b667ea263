"""Every operation that changes something has a name in audit records."""

import pytest
from fastapi import FastAPI

from tagferry.web import iam, notifications, swr
from tagferry.web.console import app as console
from tagferry.web.operations import NAMES, Operation, operation_of


def changing_routes() -> list[tuple[str, str]]:
    app = FastAPI()
    iam.add_routes(app)
    app.include_router(notifications.router)
    swr.add_routes(app)
    swr.add_versions(app)
    return sorted(
        (method.upper(), path) for path, found in app.openapi()["paths"].items() for method in found if method != "get"
    )


@pytest.mark.parametrize(("method", "path"), changing_routes())
def test_every_route_that_changes_something_has_a_name(method: str, path: str):
    assert operation_of(method, path).words, (method, path)


def changing_pages() -> list[str]:
    routes = [route for module in console._PAGES for route in module.routes]
    return sorted(route.path for route in routes if "POST" in (route.methods or ()))


@pytest.mark.parametrize("path", changing_pages())
def test_every_page_that_changes_something_has_a_name(path: str):
    assert operation_of("POST", path).words, path


def test_routes_were_found():
    assert len(changing_routes()) > 40


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        (
            "POST",
            "/v2/manage/namespaces/team/repos/shop$web/sync_images",
            Operation("synchronize images", "team", "team/shop/web"),
        ),
        (
            "DELETE",
            "/v2/manage/namespaces/team/repos/shop/web",
            Operation("delete a repository", "team", "team/shop/web"),
        ),
        ("DELETE", "/v2/manage/namespaces/team", Operation("delete an organization", "team")),
        ("DELETE", "/v2/manage/namespaces/team/repos/app/tags/v1", Operation("delete a tag", "team", "team/app")),
        (
            "PATCH",
            "/v2/manage/namespaces/team/repositories/app/access-domains/sales",
            Operation("change a share", "team", "team/app"),
        ),
        ("PUT", "/v2/team/shop/web/manifests/v1", Operation("push an image", "team", "team/shop/web")),
        ("GET", "/v2/team/app/manifests/v1", Operation("read", "team", "team/app")),
        ("GET", "/v2/manage/namespaces/team/repos/app/tags", Operation("read", "team", "team/app")),
        ("GET", "/v2/manage/namespaces/team/repos/app", Operation("read", "team", "team/app")),
        ("GET", "/v2/manage/namespaces", Operation("read")),
        (
            "POST",
            "/console/images/cn-north-4/team/shop$web/delete-tags",
            Operation("delete a tag", "team", "team/shop/web"),
        ),
        ("POST", "/console/images/cn-north-4/team:delete", Operation("delete an organization", "team")),
        ("GET", "/console/images/cn-north-4/team/app/rules", Operation("read", "team", "team/app")),
        ("GET", "/v2/manage/namespaces/team/repos/app/comparison", Operation("read", "team", "team/app")),
        ("POST", "/nothing", Operation()),
        ("BREW", "/v2/manage/namespaces", Operation()),
    ],
)
def test_an_operation_is_found_with_its_subject(method: str, path: str, expected: Operation):
    assert operation_of(method, path) == expected


def test_names_fit_the_column():
    assert max(map(len, NAMES)) <= 64
