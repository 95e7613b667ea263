"""Signing in and out, the menu, and the keyboard, in a real browser."""

from typing import Literal

from playwright.async_api import Browser, expect

from tests.browser.visits import visiting
from tests.support.deployment import Deployment


async def test_signing_in_and_out(chromium: Browser, ferry: Deployment):
    async with visiting(chromium, ferry) as visit:
        await visit.sign_in(ferry.admin.name, ferry.admin.password)
        await expect(visit.page.get_by_role("heading", level=1)).to_have_text("Overview")

        await visit.page.get_by_text(ferry.admin.name, exact=True).first.click()
        await visit.page.get_by_role("button", name="Sign out").click()
        await expect(visit.page.get_by_role("status")).to_have_text("You have signed out.")

        # The page is not kept by the browser either.
        await visit.page.go_back()
        await expect(visit.page.get_by_role("heading", level=1)).to_have_text("Sign in to tagferry")


async def test_a_session_that_was_revoked_in_the_middle_leads_back_to_the_page(chromium: Browser, ferry: Deployment):
    users = ferry.app.services.iam.users
    async with visiting(chromium, ferry) as visit:
        await visit.sign_in(ferry.admin.name, ferry.admin.password)
        admin = await users.find(ferry.admin.name)
        await users.update(admin.user_id, password="another long password")

        await visit.page.get_by_role("link", name="Users").first.click()
        await visit.page.get_by_label("User name").fill(ferry.admin.name)
        await visit.page.locator("#password").fill("another long password")
        await visit.page.locator("#password").press("Enter")

        await expect(visit.page.get_by_role("heading", level=1)).to_have_text("Users")


async def test_everything_works_without_script(chromium: Browser, ferry: Deployment):
    async with visiting(chromium, ferry, java_script_enabled=False) as visit:
        page = visit.page
        await visit.sign_in(ferry.admin.name, ferry.admin.password)

        await page.locator(".user-menu > summary").click()
        await page.get_by_role("button", name="Dark").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.locator(".user-menu > summary").click()
        await page.get_by_role("button", name="简体中文").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("总览")
        await page.locator(".user-menu > summary").click()
        await page.get_by_role("link", name="账户与访问密钥").click()
        await page.get_by_label("新密钥的用途").fill("release pipeline")
        await page.get_by_role("button", name="创建访问密钥").click()
        await expect(page.get_by_role("status").get_by_text("访问密钥已创建")).to_be_visible()


async def test_the_keyboard_alone_is_enough(chromium: Browser, ferry: Deployment):
    async with visiting(chromium, ferry) as visit:
        page = visit.page
        await visit.sign_in(ferry.admin.name, ferry.admin.password)

        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()

        menu = page.locator(".user-menu > summary")
        await menu.focus()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Account and access keys")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(menu).to_be_focused()
        await expect(page.locator(".user-menu")).not_to_have_attribute("open", "")


async def test_a_user_is_created_and_deleted_by_the_keyboard_alone(chromium: Browser, ferry: Deployment):
    async with visiting(chromium, ferry) as visit:
        page, keyboard = visit.page, visit.page.keyboard

        async def reach(name: str, role: Literal["link", "button", "textbox"]) -> None:
            wanted = page.get_by_role(role, name=name, exact=True).locator("visible=true")
            for _ in range(60):
                if await wanted.evaluate_all("all => all.includes(document.activeElement)"):
                    return
                await keyboard.press("Tab")
            raise AssertionError(f"Tab does not reach the {role} {name}")

        await page.goto(f"{visit.url}/")
        # The field for the name has the focus.
        await keyboard.type(ferry.admin.name)
        await keyboard.press("Tab")
        await keyboard.type(ferry.admin.password)
        await keyboard.press("Enter")
        await page.wait_for_url("**/console/")

        await reach("Users", "link")
        await keyboard.press("Enter")
        await page.wait_for_url("**/console/users")
        await reach("New user", "link")
        await keyboard.press("Enter")
        await page.wait_for_url("**/users/new")
        await reach("Name", "textbox")
        await keyboard.type("wang.fang")
        await reach("Password", "textbox")
        await keyboard.type("a long enough password")
        await keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("wang.fang")

        await reach("Delete", "link")
        await keyboard.press("Enter")
        await page.wait_for_url("**/delete")
        await reach("Delete the user", "button")
        await keyboard.press("Enter")
        await page.wait_for_url("**/console/users")
        await expect(page.get_by_role("link", name="wang.fang")).to_have_count(0)


async def test_times_are_local_or_utc_as_the_user_prefers(chromium: Browser, ferry: Deployment):
    async with visiting(chromium, ferry) as visit:
        await visit.sign_in(ferry.admin.name, ferry.admin.password)
        await visit.open("/console/account")
        time = visit.page.locator("time").first
        local = await time.get_attribute("title")
        await visit.page.locator(".user-menu > summary").click()
        await visit.page.get_by_role("button", name="UTC").click()
        utc = await time.get_attribute("title")

        assert (utc or "").endswith(" UTC")
        assert local != utc
