"""A check finds another server that uses the data of this installation, as a start does."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tagferry.app.regions import registry_root
from tagferry.app.startup import site
from tagferry.app.startup.locks import check_locks
from tagferry.app.startup.problem import Problem
from tagferry.app.startup.site import check_site
from tagferry.registry.storage.lock import RootLock, lock_holder
from tagferry.settings import Settings
from tests.support.deployment import deployed
from tests.support.processes import free_port

POSTGRESQL = "postgresql+psycopg://u@127.0.0.1/x"


def settings(folder: Path, **top: Any) -> Settings:
    regions = {"north": {"listen": f"127.0.0.1:{free_port()}"}, "hub": {"registry": "https://hub.example"}}
    return Settings.parse({"data_dir": folder, "regions": regions, **top})


@contextmanager
def locked(root: Path) -> Iterator[None]:
    lock = RootLock.take(root)
    try:
        yield
    finally:
        lock.release()


def test_the_lock_of_a_registry_is_a_problem_that_names_its_process(tmp_path: Path):
    parsed = settings(tmp_path, database_url=POSTGRESQL)
    root = registry_root(parsed, "north")

    assert check_locks(parsed, own=()) == []
    assert not root.exists()
    with locked(root):
        (problem,) = check_locks(parsed, own=())
        assert check_locks(parsed, own=[os.getpid()]) == []
        assert len(check_locks(parsed, own=[os.getpid() + 1])) == 1
    assert check_locks(parsed, own=()) == []

    assert problem.subject == "region north"
    assert str(problem).startswith(f'the registry directory "{root}" is in use by process {os.getpid()} on ')


def test_looking_at_a_lock_does_not_take_it(tmp_path: Path):
    with locked(tmp_path):
        assert lock_holder(tmp_path) is not None
    assert lock_holder(tmp_path) is None
    with locked(tmp_path):
        pass


async def problems(parsed: Settings, *, serves: bool = True) -> list[Problem]:
    return [problem for problem in await check_site(parsed, serves=serves) if problem.severity == "error"]


async def test_a_second_server_on_the_data_of_a_running_one_is_found(tmp_path: Path):
    async with deployed(tmp_path / "data") as ferry:
        running = ferry.settings
        moved = {name: {"listen": f"127.0.0.1:{free_port()}"} for name in running.regions}
        second = Settings.parse({"data_dir": running.data_dir, "regions": moved})
        other_region = {"west": {"listen": f"127.0.0.1:{free_port()}"}}
        third = Settings.parse({"data_dir": running.data_dir, "regions": other_region})

        assert await problems(running) == []
        of_second = await problems(second)
        of_third = await problems(third)
    assert await problems(second) == []

    assert [problem.subject for problem in of_second] == [f"region {name}" for name in moved]
    (third_problem,) = map(str, of_third)
    assert third_problem.startswith(f"another tagferry process uses {tmp_path}/data/tagferry.db; ")


@pytest.mark.parametrize(("serves", "count"), [(True, 1), (False, 0)], ids=["serve", "worker"])
async def test_a_server_without_one_of_the_addresses_is_another_one_and_a_worker_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, serves: bool, count: int
):
    parsed = settings(tmp_path, database_url=POSTGRESQL)

    async def recorded(_: Settings, *, serves: bool) -> tuple[list[Problem], set[int]]:
        assert isinstance(serves, bool)
        return [], {os.getpid()}

    monkeypatch.setattr(site, "check_database", recorded)
    with locked(registry_root(parsed, "north")):
        assert len(await problems(parsed, serves=serves)) == count
