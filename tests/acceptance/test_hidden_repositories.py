"""Registries that hide images from anonymous callers: as the source, and as a target without `override`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tagferry.names import Tag
from tests.support.deployment import NORTH, RELEASE, SOUTH, Deployment, deployed
from tests.support.images import image
from tests.support.scripted_registry import scripted_registry
from tests.support.token_registry import TokenRegistry

V1 = Tag("v1")
SOURCE, TARGET = "team/app", "release/app"
NEW, OLD = image(seed="new"), image(seed="old")
USER = {"username": "u", "password": "p"}

Kind = Callable[[TokenRegistry], None]


def hides(registry: TokenRegistry) -> None:
    registry.hides = True


def hides_and_says_so_only_to_basic(registry: TokenRegistry) -> None:
    registry.hides, registry.challenges, registry.basic = True, False, True


def hides_until_something_is_written(registry: TokenRegistry) -> None:
    registry.hides, registry.challenges = True, False


def misses_by_head(registry: TokenRegistry) -> None:
    registry.head_misses = True


@asynccontextmanager
async def ferrying(folder: Path, *, source: Kind, target: Kind) -> AsyncIterator[tuple[Deployment, TokenRegistry]]:
    """A deployment between two registries; the target has another image under the same tag."""
    async with scripted_registry() as one, scripted_registry() as other:
        north, south = TokenRegistry(one), TokenRegistry(other)
        north.hold(SOURCE, V1, NEW)
        south.hold(TARGET, V1, OLD)
        source(north)
        target(south)
        regions: dict[str, dict[str, Any]] = {
            NORTH: {"listen": "", "registry": one.url, **USER},
            SOUTH: {"registry": other.url, **USER},
        }
        async with deployed(folder, regions=regions) as deployment:
            yield deployment, south


async def synchronize(deployment: Deployment, **body: Any) -> tuple[list[str], dict[str, Any]]:
    """Return the tags that failed, and the newest job."""
    headers = {"X-Auth-Token": await deployment.token()}
    path = "/v2/manage/namespaces/team/repos/app"
    wanted = {"imageTag": [V1], "remoteNamespace": RELEASE, "remoteRegionId": SOUTH, **body}
    answer = await deployment.http("POST", f"{path}/sync_images", body=wanted, headers=headers)
    assert answer.status == 200, answer.content
    jobs = await deployment.http("GET", f"{path}/sync_job", headers=headers)
    return answer.document, jobs.document[0]


@pytest.mark.parametrize(
    "kind", [hides, hides_and_says_so_only_to_basic, hides_until_something_is_written, misses_by_head]
)
async def test_an_image_that_a_target_hides_is_not_replaced(tmp_path: Path, kind: Kind) -> None:
    async with ferrying(tmp_path, source=hides, target=kind) as (deployment, target):
        failed, job = await synchronize(deployment, override=False)

        assert failed == [V1]
        assert "another image" in job["reason"]
        assert target.at(TARGET, V1) == OLD.digest

        failed, job = await synchronize(deployment, override=True)

        assert (failed, job["status"]) == ([], "success")
        assert target.at(TARGET, V1) == NEW.digest


@pytest.mark.parametrize("kind", [hides, hides_and_says_so_only_to_basic, misses_by_head])
async def test_an_image_that_a_source_hides_is_copied(tmp_path: Path, kind: Kind) -> None:
    async with ferrying(tmp_path, source=kind, target=hides) as (deployment, target):
        failed, job = await synchronize(deployment, override=True)

        assert (failed, job["status"]) == ([], "success")
        assert target.at(TARGET, V1) == NEW.digest


def refuses_to_read_what_does_not_exist(registry: TokenRegistry) -> None:
    """Behave as Quay: a token for `pull` alone grants nothing in a repository that does not exist yet."""
    registry.manifests.clear()
    registry.grants = lambda user, scope: scope.rpartition(":")[2] if "push" in scope or registry.manifests else ""


def may_only_be_read(registry: TokenRegistry) -> None:
    registry.grants = lambda user, scope: "" if "push" in scope else "pull"


async def test_a_repository_that_does_not_exist_yet_is_synchronized_to(tmp_path: Path) -> None:
    async with ferrying(tmp_path, source=hides, target=refuses_to_read_what_does_not_exist) as (deployment, target):
        failed, job = await synchronize(deployment, override=False)

        assert (failed, job["status"]) == ([], "success")
        assert target.at(TARGET, V1) == NEW.digest
        assert set(target.scopes) == {f"repository:{TARGET}:pull,push"}


async def test_a_read_only_target_allows_a_dry_run_and_names_the_missing_permission(tmp_path: Path) -> None:
    async with ferrying(tmp_path, source=hides, target=may_only_be_read) as (deployment, target):
        planned = await deployment.http(
            "POST",
            "/v2/manage/namespaces/team/repos/app/sync_plan",
            body={"imageTag": [V1], "remoteNamespace": RELEASE, "remoteRegionId": SOUTH, "override": True},
            headers={"X-Auth-Token": await deployment.token()},
        )
        assert planned.status == 200, planned.content
        (plan,) = planned.document["tags"]
        assert plan["targetDigest"] == OLD.digest

        failed, job = await synchronize(deployment, override=True)

        assert (failed, job["status"]) == ([V1], "failed")
        assert 'the user "u" needs permission to pull and push in "release/app"' in job["reason"]
        assert target.at(TARGET, V1) == OLD.digest
