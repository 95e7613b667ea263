"""Other work than pushing and pulling: logging in, reading lists, creating and deleting rules and policies."""

import random
from collections import Counter

from tests.faults.caller import Answer, Caller
from tests.faults.installation import NORTH, SOUTH, Installation, Login

_RETENTION = {
    "algorithm": "or",
    "rules": [{"template": "tag_rule", "params": {"num": "50"}, "tag_selectors": []}],
}


class Clerk:
    """A user, with one of these operations after the other.

    Args:
        organization: the owner of the repositories that are read.

    Attributes:
        done: the number of responses, by request and status.
        faults: violations.
    """

    def __init__(self, installation: Installation, name: str, seed: int) -> None:
        login = installation.logins[name]
        url = installation.urls[NORTH]
        self._name = name
        self._login = login
        self._rng = random.Random(seed)
        self._caller = Caller(url, login)
        wrong = Login(login.name, "wrong", login.access_key, "wrong")
        self._stranger = Caller(url, wrong, source="127.0.0.9")
        self.done: Counter[str] = Counter()
        self.faults: list[str] = []

    def close(self) -> None:
        """Close the connections."""
        self._caller.close()
        self._stranger.close()

    def act(self) -> None:
        """Run one random operation; raises Lost."""
        work = self._rng.choice((self._log_in, self._list, self._list, self._rule, self._policy, self._guess))
        for answer in work():
            self.done[f"{work.__name__.strip('_')} {answer.status}"] += 1
            if answer.status >= 500 and answer.status != 503:
                self.faults.append(f"{work.__name__.strip('_')} was answered {answer.status}: {answer.body[:300]!r}")

    def _log_in(self) -> list[Answer]:
        return [self._caller.management("POST", "/v3/auth/tokens", _identity(self._login)), self._secret()]

    def _secret(self) -> Answer:
        return self._caller.management("POST", "/v2/manage/utils/secret")

    def _guess(self) -> list[Answer]:
        return [self._stranger.registry("GET", "/v2/"), self._stranger.management("GET", "/v2/manage/namespaces")]

    def _list(self) -> list[Answer]:
        path = self._rng.choice(
            (
                "/v2/manage/namespaces",
                "/v2/manage/repos",
                "/v3/manage/repos",
                f"/v2/manage/namespaces/{self._name}/repos/app/tags",
                f"/v2/manage/namespaces/{self._name}/repos/app",
                f"/v2/manage/namespaces/{self._name}/repos/synced/sync_job",
                "/v2/manage/overview",
                "/v2/manage/shared-repositories?center=self",
            )
        )
        plain = self._rng.choice(("/v2/_catalog", f"/v2/{self._name}/app/tags/list", "/healthz", "/readyz"))
        return [self._caller.management("GET", path), self._caller.registry("GET", plain)]

    def _rule(self) -> list[Answer]:
        path = f"/v2/manage/namespaces/{self._name}/repos/app/sync_repo"
        target = {"remoteRegionId": SOUTH, "remoteNamespace": self._name}
        return [
            self._caller.management("POST", path, {**target, "syncAuto": True, "override": True}),
            self._caller.management("GET", path),
            self._caller.management("DELETE", path, target),
        ]

    def _policy(self) -> list[Answer]:
        path = f"/v2/manage/namespaces/{self._name}/repos/web/retentions"
        made = self._caller.management("POST", path, _RETENTION)
        if made.status != 201:
            return [made]
        number = made.document["id"]
        return [
            made,
            self._caller.management("GET", path),
            self._caller.management("DELETE", f"{path}/{number}"),
        ]


def _identity(login: Login) -> dict[str, object]:
    user = {"name": login.name, "password": login.password, "domain": {"name": "tagferry"}}
    return {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": NORTH}},
        }
    }
