"""The permissions of each role: every use case of the console, with the request of each interface.

`tests/api/test_permissions.py` checks it; `python -m tests.permissions_page` writes it to docs/security.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.support.deployment import NORTH, SOUTH

ADMINISTRATOR, ANONYMOUS = "administrator", "anonymous"
ROLES: Mapping[str, str] = {
    ADMINISTRATOR: "an administrator",
    "manager": "may manage the organization",
    "editor": "may edit the organization",
    "reader": "may read the organization",
    "repository-manager": "may manage the repository alone",
    "repository-editor": "may edit the repository alone",
    "repository-reader": "may read the repository alone",
    "guest": "belongs to a domain that the repository is shared with, as anyone is to a public repository",
    "stranger": "has signed in, and has no permission",
    ANONYMOUS: "has not signed in",
}
"""The roles, with their meaning. Each has the same permissions in the organization that is synchronized to."""

Roles: TypeAlias = frozenset[str]

ADMINISTRATORS: Roles = frozenset({ADMINISTRATOR})
ORGANIZATION_MANAGERS = ADMINISTRATORS | {"manager"}
ORGANIZATION_EDITORS = ORGANIZATION_MANAGERS | {"editor"}
MEMBERS = ORGANIZATION_EDITORS | {"reader"}
MANAGERS = ORGANIZATION_MANAGERS | {"repository-manager"}
EDITORS = MANAGERS | {"editor", "repository-editor"}
INSIDERS = EDITORS | {"reader", "repository-reader"}
READERS = INSIDERS | {"guest"}
SIGNED_IN: Roles = frozenset(ROLES) - {ANONYMOUS}


@dataclass(frozen=True)
class Api:
    """A request to the API; `{…}` in its path and in the texts of its body are values of the preparation."""

    method: str
    path: str
    body: Any = None
    region: str = NORTH


@dataclass(frozen=True)
class UseCase:
    """A row of the table.

    Attributes:
        words: what one does.
        roles: who may do it.
        api: the request to the API; None if only the console has it.
        page: the page of the console that shows it, or that asks before it.
        form: the address of the form that does it; "" for a use case that only shows something.
        fields: the fields of the form.
        routes: further routes of the console that do the same, only at certain times.
        shows: a text that both interfaces show to those who may, and to no others, whose lists lack it; "" if the
            status of the answer says who may.
        refusal: a text of the API's answer that refuses one of several selected things. The console redirects after
            success, and else shows the results.
        preparation: what is made before each request.
        button: the value of the form's button `action`, if one address does several things.
        offered: to whom pages offer it, if that is not everyone who may; empty if only at certain times.
    """

    words: str
    roles: Roles
    api: Api | None = None
    page: str = ""
    form: str = ""
    fields: Mapping[str, str] | None = None
    routes: Sequence[tuple[str, str]] = ()
    shows: str = ""
    refusal: str = ""
    preparation: str = ""
    button: str = ""
    offered: Roles | None = None


_ORG = "/v2/manage/namespaces/{organization}"
_REPO = f"{_ORG}/repos/{{repository}}"
_PAGES = f"/console/images/{NORTH}/{{organization}}"
_PAGE = f"{_PAGES}/{{repository}}"
_JOBS = "/v2/manage/sync_jobs"
_RULE = {"remoteRegionId": SOUTH, "remoteNamespace": "mirror"}
_POLICY = {"algorithm": "or", "rules": [{"template": "tag_rule", "params": {"num": "9"}, "tag_selectors": []}]}
_NUMBER = {"number": "9", "number_except": "", "number_pattern": "", "days": "", "days_except": "", "days_pattern": ""}
_SYNC = {"imageTag": ["v1"], "override": False, **_RULE}
_CHOICE = {"region": NORTH, "repository": "{organization}/{repository}", "to": f"{SOUTH}/mirror", "tag": "v1"}
_TRIGGER = {
    "name": "{name}",
    "trigger_type": "all",
    "condition": ".*",
    "trigger_mode": "cce",
    "cluster_id": "",
    "cluster_name": "production",
    "cluster_ns": "default",
    "app_type": "deployments",
    "application": "shop",
    "container": "",
}
_METADATA = {"is_public": False, "category": "other", "description": "changed"}
_KEYS = "/v3.0/OS-CREDENTIAL/credentials"
_NEW_PASSWORD = "another password"

SHOWN = (
    UseCase("see the state of everything that one may read", SIGNED_IN, Api("GET", "/v2/manage/overview"), "/console/"),
    UseCase("list regions", SIGNED_IN, Api("GET", "/v2/manage/regions"), "/console/regions"),
    UseCase("see a region", SIGNED_IN, Api("GET", f"/v2/manage/regions/{SOUTH}"), f"/console/regions/{SOUTH}"),
    UseCase("list the own organizations", SIGNED_IN, Api("GET", "/v2/manage/namespaces"), "/console/images"),
    UseCase(
        "list the own organizations of a region",
        SIGNED_IN,
        Api("GET", "/v2/manage/namespaces"),
        f"/console/images/{NORTH}",
    ),
    UseCase(
        "list the repositories of an organization",
        READERS,
        Api("GET", "/v2/manage/repos?namespace={organization}"),
        _PAGES,
        shows="app",
    ),
    UseCase("see the members of an organization", MEMBERS, Api("GET", f"{_ORG}/access"), f"{_PAGES}:members"),
    UseCase("see a repository", READERS, Api("GET", _REPO), _PAGE),
    UseCase("see a tag", READERS, Api("GET", f"{_REPO}/tags/v1"), f"{_PAGE}/tags/v1"),
    UseCase("compare a repository with its copies", READERS, Api("GET", f"{_REPO}/comparison"), f"{_PAGE}/comparison"),
    UseCase("see the retention policy", READERS, Api("GET", f"{_REPO}/retentions"), f"{_PAGE}/retention"),
    UseCase("see the triggers", INSIDERS, Api("GET", f"{_REPO}/triggers"), f"{_PAGE}/triggers", shows="deploy"),
    UseCase(
        "see a trigger and its calls", INSIDERS, Api("GET", f"{_REPO}/triggers/deploy"), f"{_PAGE}/triggers/deploy"
    ),
    UseCase(
        "see the permissions on a repository",
        INSIDERS,
        Api("GET", f"{_REPO}/access"),
        f"{_PAGE}/members",
        shows="repository-editor",
    ),
    UseCase(
        "see the shares of a repository",
        READERS,
        Api("GET", f"{_ORG}/repositories/{{repository}}/access-domains"),
        f"{_PAGE}/sharing",
        shows="partners",
    ),
    UseCase("see the auto-sync rules", INSIDERS, Api("GET", f"{_REPO}/sync_repo"), f"{_PAGE}/rules", shows="mirror"),
    UseCase("see the auto-sync rules of all repositories", INSIDERS, None, "/console/policies", shows="mirror"),
    UseCase("see an auto-sync rule", INSIDERS, None, "/console/policies/{rule}", preparation="rule"),
    UseCase("list jobs", INSIDERS, Api("GET", _JOBS), "/console/jobs", shows="mirror"),
    UseCase("see a job", INSIDERS, Api("GET", f"{_JOBS}/{{job}}"), "/console/jobs/{job}", preparation="failed job"),
    UseCase("see the own account", SIGNED_IN, Api("GET", "/v3/users/{own}"), "/console/account"),
    UseCase("list users", ADMINISTRATORS, Api("GET", "/v3/users"), "/console/users"),
    UseCase(
        "see another user",
        ADMINISTRATORS,
        Api("GET", "/v3/users/{user}"),
        "/console/users/{user}",
        preparation="user",
    ),
    UseCase("see the audit records", ADMINISTRATORS, Api("GET", "/v2/manage/audit-records"), "/console/audit"),
    UseCase("see the processes", ADMINISTRATORS, Api("GET", "/v2/manage/workers"), "/console/workers"),
)
"""The use cases that read."""

_ORGANIZATIONS = (
    UseCase(
        "create an organization",
        SIGNED_IN,
        Api("POST", "/v2/manage/namespaces", {"namespace": "{name}"}),
        "/console/organizations/new",
        "/console/organizations/new",
        {"region": NORTH, "name": "{name}"},
    ),
    UseCase(
        "create the first organization",
        SIGNED_IN,
        Api("POST", "/v2/manage/namespaces", {"namespace": "{name}"}),
        "/console/",
        "/console/first-run/organization",
        {"organization": "{name}"},
        offered=frozenset(),
    ),
    UseCase(
        "delete an organization",
        ORGANIZATION_MANAGERS,
        Api("DELETE", _ORG),
        f"{_PAGES}:delete",
        f"{_PAGES}:delete",
        preparation="organization",
    ),
    UseCase(
        "grant a permission in an organization",
        ORGANIZATION_MANAGERS,
        Api("POST", f"{_ORG}/access", [{"user_id": "{user}", "user_name": "", "auth": 1}]),
        "",
        f"{_PAGES}:members",
        {"user": "{user}", "permission": "1"},
        preparation="user",
    ),
    UseCase(
        "change a permission in an organization",
        ORGANIZATION_MANAGERS,
        Api("PATCH", f"{_ORG}/access", [{"user_id": "{user}", "user_name": "", "auth": 3}]),
        "",
        f"{_PAGES}:members/{{user}}",
        {"permission": "3"},
        preparation="member",
    ),
    UseCase(
        "revoke a permission in an organization",
        ORGANIZATION_MANAGERS,
        Api("DELETE", f"{_ORG}/access", ["{user}"]),
        f"{_PAGES}:members/{{user}}/remove",
        f"{_PAGES}:members/{{user}}/remove",
        preparation="member",
    ),
)

_REPOSITORIES = (
    UseCase(
        "create a repository",
        ORGANIZATION_EDITORS,
        Api("POST", f"{_ORG}/repos", {"repository": "{name}", **_METADATA}),
        f"{_PAGES}:new",
        f"{_PAGES}:new",
        {"name": "{name}", "description": ""},
    ),
    UseCase(
        "create a public repository",
        ORGANIZATION_MANAGERS,
        Api("POST", f"{_ORG}/repos", {"repository": "{name}", **_METADATA, "is_public": True}),
        "",
        f"{_PAGES}:new",
        {"name": "{name}", "description": "", "is_public": "on"},
        offered=frozenset(),
    ),
    UseCase(
        "change a repository",
        EDITORS,
        Api("PATCH", _REPO, _METADATA),
        f"{_PAGE}/settings",
        f"{_PAGE}/settings",
        {"category": "other", "description": "changed"},
    ),
    UseCase(
        "delete a repository",
        MANAGERS,
        Api("DELETE", _REPO),
        f"{_PAGE}/delete",
        f"{_PAGE}/delete",
        preparation="repository",
    ),
    UseCase(
        "delete a tag",
        MANAGERS,
        Api("DELETE", f"{_REPO}/tags/{{tag}}"),
        f"{_PAGE}/delete-tags?tag={{tag}}",
        f"{_PAGE}/delete-tags",
        {"tag": "{tag}"},
        preparation="tag",
        # Its form is behind tags that one selects.
        offered=frozenset(),
    ),
    UseCase(
        "grant a permission on a repository",
        MANAGERS,
        Api("POST", f"{_REPO}/access", [{"user_id": "{user}", "user_name": "", "auth": 1}]),
        "",
        f"{_PAGE}/members",
        {"user": "{user}", "permission": "1"},
        preparation="user",
    ),
    UseCase(
        "change a permission on a repository",
        MANAGERS,
        Api("PATCH", f"{_REPO}/access", [{"user_id": "{user}", "user_name": "", "auth": 3}]),
        "",
        f"{_PAGE}/members/{{user}}",
        {"permission": "3"},
        preparation="repository member",
    ),
    UseCase(
        "revoke a permission on a repository",
        MANAGERS,
        Api("DELETE", f"{_REPO}/access", ["{user}"]),
        f"{_PAGE}/members/{{user}}/remove",
        f"{_PAGE}/members/{{user}}/remove",
        preparation="repository member",
    ),
    UseCase(
        "share a repository",
        MANAGERS,
        Api(
            "POST",
            f"{_ORG}/repositories/{{repository}}/access-domains",
            {"access_domain": "{domain}", "permit": "read", "deadline": "forever", "description": ""},
        ),
        "",
        f"{_PAGE}/sharing",
        {"domain": "{domain}", "deadline": "", "description": ""},
        preparation="domain",
    ),
    UseCase(
        "change a share",
        MANAGERS,
        Api(
            "PATCH",
            f"{_ORG}/repositories/{{repository}}/access-domains/{{domain}}",
            {"permit": "read", "deadline": "forever", "description": "changed"},
        ),
        "",
        f"{_PAGE}/sharing",
        {"edited": "{domain}", "deadline": "", "description": "changed"},
        preparation="share",
    ),
    UseCase(
        "end a share",
        MANAGERS,
        Api("DELETE", f"{_ORG}/repositories/{{repository}}/access-domains/{{domain}}"),
        f"{_PAGE}/sharing/end?domain={{domain}}",
        f"{_PAGE}/sharing/end",
        {"domain": "{domain}"},
        preparation="share",
    ),
)

_AUTOMATION = (
    UseCase(
        "create a retention policy",
        MANAGERS,
        Api("POST", f"{_REPO}/retentions", _POLICY),
        "",
        f"{_PAGE}/retention",
        _NUMBER,
        preparation="no policy",
        # The form that saves follows the preview.
        offered=frozenset(),
    ),
    UseCase(
        "change a retention policy",
        MANAGERS,
        Api("PATCH", f"{_REPO}/retentions/{{policy}}", _POLICY),
        "",
        f"{_PAGE}/retention",
        _NUMBER,
        preparation="policy",
        offered=frozenset(),
    ),
    UseCase(
        "delete a retention policy",
        MANAGERS,
        Api("DELETE", f"{_REPO}/retentions/{{policy}}"),
        f"{_PAGE}/retention/delete",
        f"{_PAGE}/retention/delete",
        {"policy": "{policy}"},
        preparation="policy",
    ),
    UseCase(
        "create a trigger",
        EDITORS,
        Api("POST", f"{_REPO}/triggers", {**_TRIGGER, "action": "update", "enable": "true"}),
        f"{_PAGE}/triggers:new",
        f"{_PAGE}/triggers:new",
        {**_TRIGGER, "enabled": "on"},
    ),
    UseCase(
        "enable or disable a trigger",
        EDITORS,
        Api("PATCH", f"{_REPO}/triggers/{{trigger}}", {"enable": "false"}),
        "",
        f"{_PAGE}/triggers/{{trigger}}",
        {"enabled": "false"},
        preparation="trigger",
    ),
    UseCase(
        "test a trigger",
        EDITORS,
        Api("POST", f"{_REPO}/triggers/{{trigger}}/test"),
        "",
        f"{_PAGE}/triggers/{{trigger}}/test",
        preparation="trigger",
    ),
    UseCase(
        "delete a trigger",
        EDITORS,
        Api("DELETE", f"{_REPO}/triggers/{{trigger}}"),
        f"{_PAGE}/triggers/{{trigger}}/delete",
        f"{_PAGE}/triggers/{{trigger}}/delete",
        preparation="trigger",
    ),
    UseCase(
        "create an auto-sync rule",
        EDITORS,
        Api("POST", f"{_REPO}/sync_repo", {**_RULE, "syncAuto": True, "override": False}),
        "",
        f"{_PAGE}/rules/new",
        {"to_region": SOUTH, "to_namespace": "mirror"},
        preparation="no rule",
        # The form that creates follows the preview.
        offered=frozenset(),
    ),
    UseCase(
        "preview an auto-sync rule",
        EDITORS,
        None,
        f"{_PAGE}/rules/new?to_region={SOUTH}&to_namespace=mirror",
    ),
    UseCase(
        "pause an auto-sync rule",
        EDITORS,
        Api("POST", f"{_REPO}/sync_repo", {**_RULE, "syncAuto": False, "override": False}),
        "",
        "/console/policies/{rule}/pause",
        preparation="rule",
    ),
    UseCase(
        "resume an auto-sync rule",
        EDITORS,
        Api("POST", f"{_REPO}/sync_repo", {**_RULE, "syncAuto": True, "override": False}),
        "",
        "/console/policies/{rule}/resume",
        preparation="paused rule",
        offered=frozenset(),
    ),
    UseCase(
        "delete an auto-sync rule",
        EDITORS,
        Api("DELETE", f"{_REPO}/sync_repo", _RULE),
        "/console/policies/{rule}/delete",
        "/console/policies/{rule}/delete",
        preparation="rule",
    ),
)

_SYNCHRONIZATION = (
    UseCase(
        "plan a synchronization",
        EDITORS,
        Api("POST", f"{_REPO}/sync_plan", {"imageTag": ["v1"], "override": False, **_RULE}),
        f"/console/synchronize?region={NORTH}&repository={{organization}}/{{repository}}&tag=v1&to={SOUTH}/mirror",
        # The page can be opened by its address, and then says why it offers nothing.
        offered=EDITORS,
    ),
    UseCase(
        "synchronize",
        EDITORS,
        Api("POST", f"{_REPO}/sync_images", _SYNC),
        "",
        "/console/synchronize",
        _CHOICE,
        # The form that starts follows the plan.
        offered=frozenset(),
    ),
    UseCase(
        "synchronize the first image",
        EDITORS,
        Api("POST", f"{_REPO}/sync_images", {**_SYNC, "remoteNamespace": "{organization}"}),
        "",
        "/console/first-run/synchronize",
        {"repository": "{organization}/{repository}", "tag": "v1", "target": SOUTH},
        offered=frozenset(),
    ),
    UseCase(
        "cancel a job",
        EDITORS,
        Api("POST", f"{_JOBS}/cancel", {"jobs": ["{job}"]}),
        "",
        "/console/jobs",
        {"job": "{job}", "action": "cancel"},
        refusal='"cancelled":false',
        preparation="open job",
        button="cancel",
    ),
    UseCase(
        "retry a job",
        EDITORS,
        Api("POST", f"{_JOBS}/retry", {"jobs": ["{job}"]}),
        "",
        "/console/jobs",
        {"job": "{job}", "action": "retry"},
        refusal='"retried":false',
        preparation="failed job",
        button="retry",
    ),
    UseCase(
        "check a region now",
        ADMINISTRATORS,
        Api("POST", f"/v2/manage/regions/{SOUTH}/check"),
        "",
        f"/console/regions/{SOUTH}/check",
    ),
)

_ACCOUNTS = (
    UseCase(
        "change the own password",
        SIGNED_IN,
        Api(
            "POST",
            "/v3/users/{own}/password",
            {"user": {"password": _NEW_PASSWORD, "original_password": "{password}"}},
        ),
        "",
        "/console/account/password",
        {"current": "{password}", "password": _NEW_PASSWORD, "repeated": _NEW_PASSWORD},
        preparation="password",
    ),
    UseCase(
        "create an own access key",
        SIGNED_IN,
        Api("POST", _KEYS, {"credential": {"user_id": "{own}", "description": ""}}),
        "",
        "/console/account/keys",
        {"description": ""},
        preparation="no keys",
    ),
    UseCase(
        "disable an own access key",
        SIGNED_IN,
        Api("PUT", f"{_KEYS}/{{key}}", {"credential": {"status": "inactive"}}),
        "",
        "/console/account/keys/{key}",
        {"enabled": "false"},
        preparation="own key",
    ),
    UseCase(
        "delete an own access key",
        SIGNED_IN,
        Api("DELETE", f"{_KEYS}/{{key}}"),
        "/console/account/keys/{key}/delete",
        "/console/account/keys/{key}/delete",
        preparation="own key",
    ),
    UseCase(
        "create a user",
        ADMINISTRATORS,
        Api("POST", "/v3/users", {"user": {"name": "{name}", "password": "a good password"}}),
        "/console/users/new",
        "/console/users",
        {"name": "{name}", "password": "a good password", "description": ""},
    ),
    UseCase(
        "change another user",
        ADMINISTRATORS,
        Api("PATCH", "/v3/users/{user}", {"user": {"enabled": False}}),
        "",
        "/console/users/{user}",
        {"enabled": "false"},
        preparation="user",
    ),
    UseCase(
        "delete another user",
        ADMINISTRATORS,
        Api("DELETE", "/v3/users/{user}"),
        "/console/users/{user}/delete",
        "/console/users/{user}/delete",
        preparation="user",
    ),
    UseCase(
        "create an access key of another user",
        ADMINISTRATORS,
        Api("POST", _KEYS, {"credential": {"user_id": "{user}", "description": ""}}),
        "",
        "/console/users/{user}/keys",
        {"description": ""},
        preparation="user",
    ),
    UseCase(
        "disable an access key of another user",
        ADMINISTRATORS,
        Api("PUT", f"{_KEYS}/{{key}}", {"credential": {"status": "inactive"}}),
        "",
        "/console/users/{user}/keys/{key}",
        {"enabled": "false"},
        preparation="key",
    ),
    UseCase(
        "delete an access key of another user",
        ADMINISTRATORS,
        Api("DELETE", f"{_KEYS}/{{key}}"),
        "/console/users/{user}/keys/{key}/delete",
        "/console/users/{user}/keys/{key}/delete",
        preparation="key",
    ),
)

DONE = (*_ORGANIZATIONS, *_REPOSITORIES, *_AUTOMATION, *_SYNCHRONIZATION, *_ACCOUNTS)
"""The use cases that change something."""

FOR_ALL = frozenset(
    {
        ("GET", "/console"),
        ("GET", "/console/sign-in"),
        ("POST", "/console/sign-in"),
        ("POST", "/console/sign-out"),
        ("POST", "/console/preferences"),
        ("GET", "/console/events"),
        ("GET", "/console/images/{region}/{namespace}/{rest:path}"),
    }
)
"""Routes of the console that have no use case of the API: the session, preferences, redirects, and the changes of jobs,
which are limited to those that the caller may see."""

ONLY_API = frozenset(
    {
        ("POST", "/v2/manage/namespaces/{namespace}/repos/{repository}/sync_job/cancel"),
        ("POST", "/v2/manage/namespaces/{namespace}/repos/{repository}/sync_job/retry"),
        ("POST", "/v2/manage/namespaces/{namespace}/repos/{repository}/retentions/plan"),
        ("POST", "/v2/manage/namespaces/{namespace}/repos/{repository}/tags"),
        ("POST", "/v2/manage/utils/secret"),
        ("POST", "/v2/manage/utils/authorizationtoken"),
        ("POST", "/v2/manage/agency"),
    }
)
"""Operations of the management API that are not in the table: another one does the same, or the console lacks them."""
