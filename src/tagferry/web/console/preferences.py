"""The preferences of a browser: language, theme, time zone. Cookies, so that the sign-in page has them, too."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from tagferry.web.console.paths import ROOT
from tagferry.web.console.translation import LANGUAGES, preferred_language, translatable

_YEAR = 365 * 24 * 3600

THEMES = {
    "system": translatable("System"),
    "light": translatable("Light"),
    "dark": translatable("Dark"),
}
TIMES = {"local": translatable("Local time"), "utc": translatable("UTC")}
CHOICES = {"language": LANGUAGES, "theme": THEMES, "time": TIMES}
"""The values of each preference, with their names."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """The preferences of a browser.

    Attributes:
        language: a key of `LANGUAGES`.
        theme: a key of `THEMES`.
        time: a key of `TIMES`; pages have UTC, and scripts convert it.
    """

    language: str
    theme: str
    time: str

    @classmethod
    def of(cls, request: Request) -> "Preferences":
        """Return the preferences in the cookies of a request; the language by default as the browser accepts it."""
        language = _chosen(request, "language") or preferred_language(request.headers.get("accept-language", ""))
        return cls(language, _chosen(request, "theme") or "system", _chosen(request, "time") or "local")


def remember(response: Response, preference: str, value: str, *, is_secure: bool) -> None:
    """Set the cookie of a preference, if its value exists."""
    if value in CHOICES[preference]:
        response.set_cookie(
            _cookie(preference), value, max_age=_YEAR, path=ROOT, secure=is_secure, httponly=True, samesite="lax"
        )


def _chosen(request: Request, preference: str) -> str | None:
    value = request.cookies.get(_cookie(preference))
    return value if value in CHOICES[preference] else None


def _cookie(preference: str) -> str:
    return f"tagferry-{preference}"
