"""Images, rules and retention in a real browser, with scripts and without."""

import pytest
from playwright.async_api import Browser, expect

from tagferry.names import Tag
from tests.api.console.test_pending import SlowStore
from tests.browser.visits import Visit, visiting
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment, name_in

APP = name_in(TEAM)
PATH = f"/console/images/{NORTH}/{TEAM}/app"


async def pushed(ferry: Deployment) -> None:
    for number in range(4):
        await images.push(ferry.store(NORTH), APP, images.image(seed=str(number)), Tag(f"v{number}"))
    await images.push(ferry.store(SOUTH), APP, images.image(seed="0"), Tag("v0"))


@pytest.fixture(params=[True, False], ids=["with scripts", "without scripts"])
def scripts(request: pytest.FixtureRequest) -> bool:
    enabled: bool = request.param
    return enabled


async def test_a_repository_is_found_compared_and_its_tags_are_deleted(
    ferry: Deployment, chromium: Browser, scripts: bool
):
    await pushed(ferry)
    async with visiting(chromium, ferry, java_script_enabled=scripts) as visit:
        await visit.sign_in(ferry.admin.name, ferry.admin.password)
        page = visit.page
        await page.get_by_role("searchbox").first.fill("team/app")
        await page.keyboard.press("Enter")
        await page.locator("tbody").first.get_by_role("link", name="team/app").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("team/app")

        await page.get_by_role("link", name="Copies").click()
        row = page.get_by_role("row", name="v0")
        await expect(row).to_contain_text("same")
        await page.get_by_label("Only differences").check()
        await page.get_by_role("button", name="Filter").click()
        await expect(page.get_by_role("row", name="v0")).to_have_count(0)
        await expect(page.get_by_role("row", name="v1")).to_contain_text("missing")

        await page.get_by_role("link", name="Tags", exact=True).click()
        for tag in ("v1", "v2"):
            await page.get_by_label(f"Select {tag}").check()
        await page.get_by_role("button", name="Delete the selected tags").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Delete 2 tags of team/app?")
        await page.get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("status")).to_contain_text("Deleted tags: 2.")
        await expect(page.locator("tbody tr")).to_have_count(2)


async def test_a_rule_and_a_policy_are_previewed_before_they_are_saved(
    ferry: Deployment, chromium: Browser, scripts: bool
):
    await pushed(ferry)
    async with visiting(chromium, ferry, java_script_enabled=scripts) as visit:
        await visit.sign_in(ferry.admin.name, ferry.admin.password)
        await rule_is_created(visit)
        await policy_is_saved(visit)


async def rule_is_created(visit: Visit) -> None:
    page = visit.page
    await visit.open(f"{PATH}/rules")
    await page.get_by_role("link", name="New rule").click()
    await page.get_by_label("Target organization").fill("Not valid")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Target organization")).to_have_attribute("aria-invalid", "true")
    visit.problems.clear()
    await page.get_by_label("Target organization").fill(RELEASE)
    await page.keyboard.press("Enter")
    await expect(page.locator("tbody tr")).to_have_count(4)
    await expect(page.get_by_role("row", name="v3")).to_contain_text("would be copied")
    await page.get_by_role("button", name="Create the rule").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text(f"team/app → {RELEASE}")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("paused")


async def policy_is_saved(visit: Visit) -> None:
    page = visit.page
    await visit.open(f"{PATH}/retention")
    await page.get_by_label("Number of tags to keep").fill("3")
    await page.keyboard.press("Enter")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(page.locator("tbody tr")).to_contain_text("v0")
    await page.get_by_role("button", name="Save the policy").click()
    await expect(page.get_by_role("status")).to_contain_text("The policy was saved")
    await expect(page.get_by_label("Number of tags to keep")).to_have_value("3")


@pytest.mark.parametrize(
    ("path", "later"),
    [("/console/images", "manage"), (PATH, "v1"), (f"{PATH}/retention?number=1", "v1")],
    ids=["organizations", "tags", "retention"],
)
async def test_what_takes_long_appears_when_it_is_known(
    ferry: Deployment, chromium: Browser, scripts: bool, path: str, later: str
):
    store = SlowStore()
    ferry.replace(NORTH, store)
    for tag in ("v1", "v2"):
        await images.push(store, APP, images.image(seed=tag), Tag(tag))
    ferry.app.services.console.eventual.patience = 0.0
    async with visiting(chromium, ferry, java_script_enabled=scripts) as visit:
        await visit.sign_in(ferry.admin.name, ferry.admin.password)
        await visit.open(path)
        pending = visit.page.locator("[data-pending]").first
        await expect(pending).to_be_visible()
        # axe is a script.
        assert not scripts or await visit.accessibility_problems() == []

        store.may_list.set()
        while not scripts and await pending.count():
            await visit.page.get_by_role("link", name="Show the present state").first.click()

        await expect(visit.page.locator("[data-pending]")).to_have_count(0)
        await expect(visit.page.locator("tbody").first).to_contain_text(later)
        assert visit.problems == []


_BREAK_FIRST_BODY = """
    const fetched = window.fetch;
    window.fetch = async (...request) => {
      if (window.isBroken) return fetched(...request);
      window.isBroken = true;
      return new Response(new ReadableStream({ start: (body) => body.error(new TypeError("network error")) }));
    };
"""


async def test_a_connection_that_breaks_while_a_page_is_completed_is_tried_again(ferry: Deployment, chromium: Browser):
    store = SlowStore()
    ferry.replace(NORTH, store)
    await images.push(store, APP, images.image(seed="v1"), Tag("v1"))
    ferry.app.services.console.eventual.patience = 0.0
    async with visiting(chromium, ferry) as visit:
        await visit.sign_in(ferry.admin.name, ferry.admin.password)
        await visit.page.add_init_script(_BREAK_FIRST_BODY)
        await visit.open(PATH)

        store.may_list.set()

        await expect(visit.page.locator("[data-pending]")).to_have_count(0)
        await expect(visit.page.locator("tbody").first).to_contain_text("v1")
