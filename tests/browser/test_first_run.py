"""The first run: from a fresh installation to the first synchronized tag, with skopeo, as the page says."""

import asyncio
import json
import shlex
from pathlib import Path

from playwright.async_api import Browser, expect

from tagferry.app import ensure_admin, open_app
from tagferry.names import RepositoryName
from tagferry.settings import Settings
from tagferry.web.server.serve import listening
from tests.browser.visits import Visit, opened
from tests.support.deployment import NORTH, SOUTH, eventually
from tests.support.images import image
from tests.support.processes import free_port
from tests.support.programs import require_program, skopeo_environment
from tests.support.schemas import sqlite_in


def write_layout(folder: Path) -> Path:
    """Write an image as a folder in the OCI image layout."""
    sample = image()
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for digest, content in [*sample.all_blobs.items(), (sample.digest, sample.manifest.raw)]:
        (blobs / digest.removeprefix("sha256:")).write_bytes(content)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    index = {"schemaVersion": 2, "manifests": [sample.manifest.descriptor.to_json()]}
    (folder / "index.json").write_text(json.dumps(index))
    return folder


async def run(folder: Path, command: str, *, typed: str = "") -> None:
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**skopeo_environment(folder), "REGISTRY_AUTH_FILE": str(folder / "auth.json")},
    )
    output, _ = await process.communicate(typed.encode())
    assert process.returncode == 0, output.decode()


async def commands_of(visit: Visit, label: str) -> list[str]:
    """Return the commands that the page shows under a label."""
    text: str = await visit.page.get_by_label(label, exact=True).inner_text()
    return text.splitlines()


async def test_a_fresh_installation_leads_to_the_first_synchronized_tag(chromium: Browser, tmp_path: Path):
    require_program("skopeo")
    regions = {name: {"listen": f"127.0.0.1:{free_port()}"} for name in (NORTH, SOUTH)}
    settings = Settings.parse({"data_dir": tmp_path / "data", "regions": regions})
    sqlite_in(tmp_path / "data")
    source = write_layout(tmp_path / "layout")
    async with open_app(settings) as app, listening(app.listeners, settings.limits):
        admin = await ensure_admin(app.accounts)
        assert admin is not None
        async with opened(chromium, f"http://{regions[NORTH]['listen']}") as visit:
            page = visit.page
            await visit.sign_in(admin.name, admin.password)
            step = page.locator("[aria-current=step]")

            await expect(step).to_contain_text("Create an organization")
            await page.screenshot(path="build/screenshots/first-run-light.png", full_page=True)
            await page.get_by_label("Name").fill("shop")
            await page.get_by_role("button", name="Create the organization").click()

            await expect(step).to_contain_text("Push an image")
            login, copy = await commands_of(visit, "skopeo")
            await run(tmp_path, f"{login} --password-stdin", typed=admin.password)
            # No other registry is reached by a test: the image comes from a folder.
            copy = copy.replace("docker://docker.io/library/alpine:3", f"oci:{source}")
            await run(tmp_path, copy.replace("skopeo", "skopeo --insecure-policy"))
            assert await visit.accessibility_problems() == []
            await page.get_by_role("link", name="I have pushed it").click()

            await expect(step).to_contain_text("Synchronize it")
            await page.get_by_role("button", name="Synchronize").click()
            await expect(page.get_by_text("1 synchronized in 24 hours")).to_be_visible()

        async def tags() -> list[str]:
            return [one async for one in app.services.swr.regions[SOUTH].store.list_tags(RepositoryName("shop/alpine"))]

        assert await eventually(tags) == ["3"]
