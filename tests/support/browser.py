"""A browser without script, for tests of the console: cookies, forms, redirects, and parsed pages."""

import asyncio
import io
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from http.cookies import Morsel, SimpleCookie
from typing import Any
from urllib.parse import urlencode
from xml.etree.ElementTree import Element, TreeBuilder

import aiohttp
from yarl import URL

_VOID = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"]
)


class _Tree(HTMLParser):
    """Builds a tree of elements, and refuses elements that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.builder = TreeBuilder()
        self._open: list[str] = []
        self.builder.start("document", {})

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.builder.start(tag, {name: value or "" for name, value in attrs})
        if tag in _VOID:
            self.builder.end(tag)
        else:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.builder.start(tag, {name: value or "" for name, value in attrs})
        self.builder.end(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1:] == [tag], f"</{tag}> closes {self._open[-1:]} at {self.getpos()}"
        self._open.pop()
        self.builder.end(tag)

    def handle_data(self, data: str) -> None:
        self.builder.data(data)


def parsed(html: str) -> Element:
    """Return the tree of a page."""
    tree = _Tree()
    tree.feed(html)
    tree.close()
    assert not tree._open, tree._open
    tree.builder.end("document")
    return tree.builder.close()


def text_of(element: Element) -> str:
    """Return the text of an element, with single spaces."""
    return " ".join("".join(element.itertext()).split())


@dataclass(frozen=True)
class Page:
    """A page that a server returned."""

    status: int
    headers: Mapping[str, str]
    html: str
    path: str

    @property
    def tree(self) -> Element:
        """The parsed page."""
        return parsed(self.html)

    @property
    def heading(self) -> str:
        """The text of its heading."""
        return text_of(self.one("h1"))

    @property
    def text(self) -> str:
        """The text of its main part."""
        return text_of(self.one("main"))

    @property
    def location(self) -> str:
        """The target of a redirect."""
        return self.headers["Location"]

    def all(self, path: str) -> list[Element]:
        """Return all elements at a path of ElementTree's XPath, such as `a[@href]`."""
        return self.tree.findall(f".//{path}")

    def one(self, path: str) -> Element:
        """Return the only element at a path."""
        found = self.all(path)
        assert len(found) == 1, f"{len(found)} elements {path} in {self.path}"
        return found[0]

    def rows(self) -> list[list[str]]:
        """Return the texts of the cells of the table."""
        return [[text_of(cell) for cell in row.findall("td")] for row in self.all("tbody/tr")]

    def form(self, action: str, button: str = "") -> dict[str, str]:
        """Return the fields of a form as a browser would send them, and of the button with this text."""
        form = self.one(f"form[@action='{action}']")
        fields = {one.get("name", ""): one.get("value", "") for one in form.iter("input") if _is_sent(one)}
        for select in form.iter("select"):
            options = list(select.iter("option"))
            chosen = next((one for one in options if "selected" in one.attrib), options[0])
            fields[select.get("name", "")] = chosen.get("value", "")
        for one in form.iter("button"):
            if button and text_of(one) == button and "name" in one.attrib:
                fields[one.attrib["name"]] = one.get("value", "")
        return fields


class Browser:
    """A browser without script, with its own cookies.

    Args:
        url: the address of a region.
        headers: headers of every request.
    """

    def __init__(self, url: str, **headers: str) -> None:
        self.url = url
        self.headers = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Accept-Language": "en", **headers}
        self.cookies: dict[str, str] = {}
        self.received: dict[str, Morsel[str]] = {}

    async def get(self, path: str, *, follow: bool = False, headers: Mapping[str, str] = {}) -> Page:
        """Open a page; `follow` follows redirects."""
        page = await self.send("GET", path, headers=headers)
        while follow and page.status == 303:
            page = await self.send("GET", page.location)
        return page

    async def complete(self, path: str) -> Page:
        """Open a page, following redirects, as often as parts of it are still to be loaded."""
        while True:
            page = await self.get(path, follow=True)
            if page.status != 200 or not page.all("*[@data-pending]"):
                return page
            await asyncio.sleep(0.05)

    async def post(self, path: str, fields: Any = (), *, follow: bool = False, headers: Mapping[str, str] = {}) -> Page:
        """Send a form; `fields` is a dict, or pairs."""
        sent = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded", **headers}
        page = await self.send("POST", path, body=urlencode(fields).encode(), headers=sent)
        return await self.get(page.location, follow=True) if follow and page.status == 303 else page

    async def submit(
        self,
        page: Page,
        action: str,
        fields: Mapping[str, str] = {},
        *,
        follow: bool = True,
        button: str = "",
        **more: str,
    ) -> Page:
        """Fill in a form of a page and send it."""
        return await self.post(action, {**page.form(action, button), **fields, **more}, follow=follow)

    async def send(self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] = {}) -> Page:
        """Send one request, with the cookies."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {**self.headers, **({"Cookie": cookie} if cookie else {}), **headers}
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), skip_auto_headers=["Content-Type"]) as http,
            http.request(
                method,
                URL(f"{self.url}{path}", encoded=True),
                data=None if body is None else io.BytesIO(body),
                headers={name: value for name, value in sent.items() if value},
                allow_redirects=False,
            ) as response,
        ):
            html = (await response.read()).decode()
            for header in response.headers.getall("Set-Cookie", []):
                self._keep(header)
        return Page(response.status, response.headers, html, path)

    async def sign_in(self, name: str, password: str, *, follow: bool = True) -> Page:
        """Sign in with the form of the page for it."""
        page = await self.get("/console/sign-in")
        return await self.submit(page, "/console/sign-in", follow=follow, name=name, password=password)

    def _keep(self, header: str) -> None:
        for name, morsel in SimpleCookie(header).items():
            self.received[name] = morsel
            if morsel["max-age"] == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value


def _is_sent(field: Element) -> bool:
    return "name" in field.attrib and (field.get("type") != "checkbox" or "checked" in field.attrib)
