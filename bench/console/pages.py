"""The pages of the console that are measured: all of its map, with their filters."""

from dataclasses import dataclass

from bench.console.content import Filled
from bench.console.scale import MANY, Scale
from bench.served import ORGANIZATION, SOURCE_REGION, TARGET_REGION

_IMAGES = "/console/images"


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Attributes:
        name: what it is, for the table.
        path: its path and query.
        session: the session that opens it; empty without a session.
        is_at_once: whether its first request does not wait until the work after the start is done.
    """

    name: str
    path: str
    session: str
    is_at_once: bool = False


def pages(filled: Filled, scale: Scale) -> list[Page]:
    """Return the pages: all of them as an administrator sees them, and those that decide by user, as a member."""
    everyone = _for_everyone(filled, scale)
    found = [Page("sign in", "/console/sign-in", "")]
    found += [Page(name, path, filled.administrator) for name, path in {**everyone, **_for_administrators()}.items()]
    found += [Page(f"{name}, at once", everyone[name], filled.administrator, is_at_once=True) for name in _AT_ONCE]
    found += [Page(f"{name}, as a member", everyone[name], filled.members[0]) for name in _BY_USER]
    return found


_AT_ONCE = ("overview", "rules", "jobs")
_BY_USER = (
    "overview",
    "organizations",
    "search",
    "repositories",
    "tags",
    "rules",
    "jobs",
    "failed jobs",
    "jobs of an organization",
    "jobs of an unknown user",
)


def _for_everyone(filled: Filled, scale: Scale) -> dict[str, str]:
    organization = f"{_IMAGES}/{SOURCE_REGION}/{ORGANIZATION}"
    many = f"{organization}/{MANY}"
    half = scale.tags // 2
    return {
        "overview": "/console/",
        "regions": "/console/regions",
        "one region": f"/console/regions/{SOURCE_REGION}",
        "organizations": _IMAGES,
        "search": f"{_IMAGES}?q=r00",
        "search without result": f"{_IMAGES}?q=nothing",
        "search for an unknown digest": f"{_IMAGES}?q=sha256:{'0' * 64}",
        "organizations of a region": f"{_IMAGES}/{SOURCE_REGION}",
        "repositories": organization,
        "repositories, from the middle": f"{organization}?after={ORGANIZATION}/r{scale.repositories // 2:05}",
        "repositories by a part of their name": f"{organization}?q=99",
        "tags": many,
        "tags by name": f"{many}?order=name",
        "tags by name, from the middle": f"{many}?order=name&after=%20v{half}",
        "tags by a part of their name": f"{many}?q=99",
        "one tag": f"{many}/tags/v1",
        "where a tag's image is": f"{many}/tags/v1?locate=1",
        "matrix": f"{many}/comparison",
        "matrix of differences": f"{many}/comparison?differences=on",
        "settings of a repository": f"{many}/settings",
        "synchronize: tags": f"/console/synchronize?repository={ORGANIZATION}/{MANY}",
        "synchronize: plan of 20 tags": _plan(20),
        "synchronize: plan of 200 tags": _plan(200),
        **_jobs(filled),
        "rules": "/console/policies",
        "one rule": f"/console/policies/{filled.rule}",
        "rules of a repository": f"{many}/rules",
        "new rule with preview": f"{many}/rules/new?to_region={TARGET_REGION}&to_namespace={ORGANIZATION}",
        "retention": f"{many}/retention",
        "retention preview by number": f"{many}/retention?number={max(1, scale.tags // 10)}",
        "retention preview by age": f"{many}/retention?days=1",
        "triggers": f"{many}/triggers",
        "one trigger": f"{many}/triggers/{filled.trigger}",
        "members of an organization": f"{organization}:members",
        "members of a repository": f"{many}/members",
        "sharing": f"{many}/sharing",
        "account": "/console/account",
    }


def _jobs(filled: Filled) -> dict[str, str]:
    jobs = "/console/jobs"
    states = {state: f"{jobs}?state={state}" for state in ("waiting", "running", "success", "failed", "existed")}
    return {
        "jobs": jobs,
        "200 jobs": f"{jobs}?rows=200",
        "jobs from the middle": f"{jobs}?marker={filled.middle}",
        **{f"{state} jobs": path for state, path in states.items()},
        "problems": f"{jobs}?state=problems",
        "open jobs": f"{jobs}?state=open",
        "jobs of an organization": f"{jobs}?repository={ORGANIZATION}",
        "jobs of a repository": f"{jobs}?region={SOURCE_REGION}&repository={ORGANIZATION}/{MANY}",
        "jobs by the beginning of a repository": f"{jobs}?repository={ORGANIZATION}/r0009",
        "jobs of a repository that has none": f"{jobs}?repository={ORGANIZATION}/nothing",
        "jobs to a region": f"{jobs}?to={TARGET_REGION}",
        "jobs by a user": f"{jobs}?by={filled.member}",
        "jobs of an unknown user": f"{jobs}?by=nobody",
        "jobs of the last hour": f"{jobs}?since=1h",
        "jobs of 7 days": f"{jobs}?since=7d",
        "failed jobs of an organization to a region": f"{jobs}?state=failed&repository=org001&to={TARGET_REGION}",
        "a succeeded job": f"{jobs}/{filled.jobs['success']}",
        "a failed job": f"{jobs}/{filled.jobs['failed']}",
        "a waiting job": f"{jobs}/{filled.jobs['waiting']}",
    }


def _for_administrators() -> dict[str, str]:
    audit = "/console/audit"
    return {
        "users": "/console/users",
        "users by the beginning of their name": "/console/users?name=user05",
        "audit": audit,
        "audit of a user": f"{audit}?user=user0007",
        "audit of an organization": f"{audit}?organization=org001",
        "audit of a repository": f"{audit}?repository={ORGANIZATION}/r00001",
        "audit of an operation": f"{audit}?operation=create+a+retention+policy",
        "audit: refused": f"{audit}?refused=true",
        "audit: refused of a user": f"{audit}?refused=true&user=user0007",
        "workers": "/console/workers",
    }


def _plan(tags: int) -> str:
    # As the field for further tags has them.
    chosen = "+".join(f"v{number}" for number in range(tags))
    return f"/console/synchronize?repository={ORGANIZATION}/{MANY}&to={TARGET_REGION}/{ORGANIZATION}&tag={chosen}"
