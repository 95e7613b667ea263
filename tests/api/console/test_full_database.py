"""With a full disk, the database accepts no changes: pages say so, and what is only read still works."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from tests.support.browser import Browser, Page
from tests.support.deployment import Deployment

_UNLIMITED = 2**31


@contextmanager
def full_disk(ferry: Deployment) -> Iterator[None]:
    """Let SQLite's file not grow any more. What fits into its pages is still accepted."""
    engine, most = ferry.app.accounts.database._engine.sync_engine, 1

    def limit(connection: Any, *_: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA max_page_count={most}")
        cursor.close()

    event.listen(engine, "checkout", limit)
    try:
        yield
    finally:
        # The listener stays: connections in the pool must get their room back.
        most = _UNLIMITED


async def until_refused(change: Callable[[int], Awaitable[Page]]) -> Page:
    """Repeat a change until it is not accepted."""
    for number in range(500):
        page = await change(number)
        if page.status != 303:
            return page
    raise AssertionError("the disk has room")


async def test_signing_in_and_changes_fail_with_the_reason_and_work_again(
    ferry: Deployment, administrator: Browser, browser: Browser
):
    async def sign_in(_: int) -> Page:
        other = Browser(browser.url)
        page = await other.sign_in(ferry.admin.name, ferry.admin.password, follow=False)
        assert (page.status == 303) == bool(other.cookies)
        return page

    async def create(number: int) -> Page:
        # With a long name, so that few of them fill a page of the file.
        fields = {"organization": f"{'long-' * 10}{number}"}
        return await administrator.post("/console/first-run/organization", fields)

    with full_disk(ferry):
        refusals = [await until_refused(sign_in), await until_refused(create)]
        assert (await administrator.get("/console/jobs")).status == 200
        assert (await administrator.get("/console/audit")).status == 200

    for page in refusals:
        assert page.status == 503
        assert "the database cannot be used" in page.text
    assert (await sign_in(0)).status == 303
    assert (await create(1000)).status == 303
