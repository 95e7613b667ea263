"""The composition root: the only place that builds objects."""

from tagferry.app.accounts import (
    ADMIN,
    DEFAULT_DOMAIN,
    Accounts,
    FirstAdmin,
    ensure_admin,
    open_accounts,
)
from tagferry.app.backend import Backend, configured_regions, open_backend
from tagferry.app.http import App, open_app
from tagferry.app.regions import open_regions
from tagferry.app.reload import Reloader, Serving, checked_settings

__all__ = [
    "ADMIN",
    "DEFAULT_DOMAIN",
    "Accounts",
    "App",
    "Backend",
    "FirstAdmin",
    "Reloader",
    "Serving",
    "checked_settings",
    "configured_regions",
    "ensure_admin",
    "open_accounts",
    "open_app",
    "open_backend",
    "open_regions",
]
