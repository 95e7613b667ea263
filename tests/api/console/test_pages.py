"""All pages share errors, languages, preferences and limits."""

from tagferry import bounds
from tagferry.app import DEFAULT_DOMAIN
from tests.support.browser import Browser, text_of
from tests.support.deployment import Deployment


async def test_the_overview_names_the_regions(administrator: Browser):
    page = await administrator.get("/console/")

    assert page.status == 200
    assert "cn-north-4" in page.text


async def test_a_missing_page_says_so_and_shows_the_way_back(administrator: Browser):
    page = await administrator.get("/console/nothing")

    assert (page.status, page.heading) == (404, "Not found")
    assert page.all("a[@href='/console/']")
    assert page.headers["X-Request-Id"] in page.text


async def test_a_page_that_takes_no_forms_answers_405(administrator: Browser):
    assert (await administrator.post("/console/")).status == 405
    assert (await administrator.get("/console/sign-out")).status == 405


async def test_a_script_without_a_session_gets_401(browser: Browser):
    page = await browser.get("/console/", headers={"Accept": "text/event-stream"})

    assert page.status == 401


async def test_the_language_is_what_the_browser_prefers(browser: Browser):
    for accepted, language in (("", "en"), ("zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans"), ("zh;q=x", "en")):
        page = await browser.get("/console/sign-in", headers={"Accept-Language": accepted})
        assert page.one("html").get("lang") == language
        assert page.heading == {"en": "Sign in to tagferry", "zh-Hans": "登录 tagferry"}[language]


async def test_language_theme_and_time_are_chosen_in_the_menu(administrator: Browser):
    page = await administrator.get("/console/?x=1")
    for preference, value in (("language", "zh-Hans"), ("theme", "dark"), ("time", "utc")):
        forms = page.all("form[@action='/console/preferences']")
        form = next(one for one in forms if one.find(f".//button[@name='{preference}']") is not None)
        target = next(one.get("value", "") for one in form.iter("input"))
        saved = await administrator.post("/console/preferences", {preference: value, "next": target})
        assert saved.location == "/console/?x=1"

    root = (await administrator.get("/console/")).one("html")
    assert (root.get("lang"), root.get("data-theme"), root.get("data-time")) == ("zh-Hans", "dark", "utc")


async def test_unknown_preferences_are_ignored(administrator: Browser):
    await administrator.post("/console/preferences", {"language": "tlh", "theme": "<b>", "time": ""})
    administrator.cookies["tagferry-theme"] = '"><script>'

    root = (await administrator.get("/console/")).one("html")
    assert (root.get("lang"), root.get("data-theme")) == ("en", "system")


async def test_the_navigation_marks_the_page_and_hides_what_the_caller_may_not_open(
    ferry: Deployment, administrator: Browser
):
    await ferry.app.services.iam.users.create("wang.fang", "a long enough password", domain=DEFAULT_DOMAIN)
    reader = Browser(administrator.url)
    await reader.sign_in("wang.fang", "a long enough password")

    for browser, is_admin in ((administrator, True), (reader, False)):
        page = await browser.get("/console/")
        entries = {text_of(one): one for one in page.all("nav[@aria-label='Main']/a")}
        assert entries["Overview"].get("aria-current") == "page"
        assert {"Users", "Audit", "Workers"} & set(entries) == set() or is_admin


async def test_requests_are_limited_as_those_to_the_apis(browser: Browser):
    long_query = "&".join(["a=1"] * (bounds.QUERY_PARAMETERS + 1))
    assert (await browser.get(f"/console/sign-in?{long_query}")).status == 400
    many = [("name", "x")] * (bounds.FORM_FIELDS + 1)
    assert (await browser.post("/console/sign-in", many)).status == 413
    assert (await browser.post("/console/sign-in", {"name": "x" * 3_000_000})).status == 413
    odd = await browser.send(
        "POST",
        "/console/sign-in",
        body=b"name=%ff",
        headers={"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"},
    )
    assert odd.status == 400
    json = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
    assert (await browser.send("POST", "/console/sign-in", body=b"{}", headers=json)).status == 400


async def test_pages_and_files_are_compressed_for_browsers_that_accept_it(administrator: Browser):
    for path in (
        "/console/jobs",
        (await administrator.get("/console/")).one("link[@rel='stylesheet']").get("href", ""),
    ):
        packed = await administrator.get(path, headers={"Accept-Encoding": "br, gzip;q=0.5"})
        plain = await administrator.get(path, headers={"Accept-Encoding": "gzip;q=0, identity"})

        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"]) / 2
        assert "Accept-Encoding" in packed.headers["Vary"]
        assert "Accept-Encoding" in plain.headers["Vary"]
        assert packed.headers.get("Cache-Control") == plain.headers.get("Cache-Control")


async def test_answers_to_forms_are_not_compressed_since_they_may_have_secrets(administrator: Browser):
    made = await administrator.post("/console/account/keys", {"description": "ci"}, headers={"Accept-Encoding": "gzip"})

    assert made.status == 201
    assert "Content-Encoding" not in made.headers
