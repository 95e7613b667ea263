"""An installation with something on every page, and the list of pages."""

from dataclasses import dataclass

from tagferry.app import DEFAULT_DOMAIN
from tests.support.deployment import Deployment

PASSWORD = "a long enough password"


@dataclass(frozen=True)
class Shown:
    """A page that is looked at.

    Attributes:
        name: of its pictures.
        path: its address.
        status: the status that it answers with.
    """

    name: str
    path: str
    status: int = 200


async def fill(ferry: Deployment) -> list[Shown]:
    """Fill an installation, and return all pages; a page that is added to the console is added here, too."""
    return [*await _accounts(ferry), Shown("overview", "/console/"), Shown("missing", "/console/nothing", 404)]


async def _accounts(ferry: Deployment) -> list[Shown]:
    users = ferry.app.services.iam.users
    long_name = "a-name-as-long-as-names-can-be-" + "x" * 33
    for at, name in enumerate(("wang.fang", "release-bot", "ci", long_name)):
        description = "release pipeline of the platform team" if at % 2 else ""
        await users.create(name, PASSWORD, domain=DEFAULT_DOMAIN, description=description, enabled=at != 2)
    user = await users.find("wang.fang")
    await ferry.app.services.iam.keys.create(user.user_id, description="release pipeline")
    path = f"/console/users/{user.user_id}"
    return [
        Shown("account", "/console/account"),
        Shown("users", "/console/users"),
        Shown("users-empty", "/console/users?name=nobody"),
        Shown("user-new", "/console/users/new"),
        Shown("user", path),
        Shown("user-delete", f"{path}/delete"),
    ]
