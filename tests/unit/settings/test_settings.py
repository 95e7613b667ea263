import os
import traceback
from pathlib import Path
from typing import Any

import pytest

from tagferry.errors import Invalid, NotFound
from tagferry.settings import Settings

EMBEDDED = {"listen": "127.0.0.1:8080"}
REMOTE = {"registry": "https://registry.example"}
SECRET = "hunter2-s3cret"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("TAGFERRY_"):
            monkeypatch.delenv(name)


def write(folder: Path, content: str) -> Path:
    file = folder / "tagferry.toml"
    file.write_text(content, encoding="utf-8")
    return file


def refusal(document: dict[str, Any]) -> str:
    """Return the error message for an invalid document."""
    with pytest.raises(Invalid) as refused:
        Settings.parse(document)
    assert SECRET not in "".join(traceback.format_exception(refused.value))
    return refused.value.message


def region(**settings: Any) -> dict[str, Any]:
    return {"regions": {"north": settings}}


def test_a_file_is_read_and_the_rest_has_its_defaults(tmp_path: Path):
    file = write(
        tmp_path,
        """
        log_format = "json"

        [regions.cn-north-4]
        listen = "127.0.0.1:8080"

        [regions.cn-south-1]
        registry = "https://registry.example/"
        username = "robot"
        password = "hunter2-s3cret"

        [sync]
        max_tags_per_request = 20
        """,
    )

    settings = Settings.load(file)

    assert (settings.log_format, settings.log_level, settings.sync.max_tags_per_request) == ("json", "info", 20)
    assert (settings.sync.wait_seconds, settings.sync.verify) == (55, "copied")
    assert list(settings.served_regions) == ["cn-north-4"]
    assert settings.regions["cn-north-4"].is_embedded
    south = settings.regions["cn-south-1"]
    assert (south.url, south.is_embedded) == ("https://registry.example", False)
    assert south.password is not None
    assert south.password.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("given", "expected"), [("", "tagferry-data"), ('data_dir = "here/data"', "here/data"), ('data_dir = "."', ".")]
)
def test_a_relative_data_directory_is_relative_to_the_files_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: str
):
    write(tmp_path, f'{given}\n[regions.north]\nlisten = "127.0.0.1:1"')
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    settings = Settings.load(Path("../tagferry.toml"))

    assert settings.data_dir.resolve() == (tmp_path / expected).resolve()
    assert settings.data_dir.is_absolute()
    assert settings.effective_database_url == f"sqlite:///{settings.data_dir / 'tagferry.db'}"


def test_an_absolute_data_directory_and_a_database_url_are_taken_as_they_are(tmp_path: Path):
    file = write(
        tmp_path,
        'data_dir = "/srv/data"\ndatabase_url = "postgresql+psycopg://db/x"\n[regions.north]\nlisten = "h:1"',
    )

    settings = Settings.load(file)

    assert settings.data_dir == Path("/srv/data")
    assert settings.effective_database_url == "postgresql+psycopg://db/x"


def test_the_environment_wins_over_the_file_setting_by_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = write(
        tmp_path,
        """
        log_level = "warning"
        [regions.north]
        listen = "127.0.0.1:8080"
        max_connections = 5
        [sync]
        max_tags_per_request = 20
        wait_seconds = 7
        """,
    )
    for name, value in {
        "TAGFERRY_LOG_LEVEL": "debug",
        "TAGFERRY_SYNC__MAX_TAGS_PER_REQUEST": "50",
        "TAGFERRY_LIMITS__BODY_BYTES": "99",
        "TAGFERRY_REGIONS__north__MAX_CONNECTIONS": "9",
        "TAGFERRY_REGIONS__north__USERNAME": "robot",
        "TAGFERRY_REGIONS__north__PASSWORD": SECRET,
        "TAGFERRY_SECRET_KEY": SECRET,
    }.items():
        monkeypatch.setenv(name, value)

    settings = Settings.load(file)

    assert settings.log_level == "debug"
    assert (settings.sync.max_tags_per_request, settings.sync.wait_seconds) == (50, 7)
    assert settings.limits.body_bytes == 99
    north = settings.regions["north"]
    assert (north.listen, north.max_connections, north.username) == ("127.0.0.1:8080", 9, "robot")
    assert north.password is not None
    assert north.password.get_secret_value() == SECRET
    assert SECRET not in repr(settings)


def test_the_environment_is_checked_as_the_file_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAGFERRY_SYNC__MAX_TAGS_PER_REQUEST", "none")
    assert refusal({"regions": {"north": EMBEDDED}}).startswith(
        "TAGFERRY_SYNC__MAX_TAGS_PER_REQUEST must be a whole number"
    )

    monkeypatch.setenv("TAGFERRY_SYNC__MAX_TAGS_PER_REQUEST", "5")
    monkeypatch.setenv("TAGFERRY_SYNC__MAX_TAG", SECRET)
    assert refusal({"regions": {"north": EMBEDDED}}) == "TAGFERRY_SYNC__MAX_TAG is an unknown setting; remove it"


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("required", "required"), ("0", False)])
def test_referrers_are_taken_left_or_required_also_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, text: str, value: object
):
    monkeypatch.setenv("TAGFERRY_SYNC__REFERRERS", text)

    assert Settings.parse({"regions": {"north": EMBEDDED}}).sync.referrers == value


def test_an_environment_variable_that_should_be_json_and_is_not_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAGFERRY_REGIONS", '{"north": {"password": "hunter2-s3cret"')

    told = refusal({"regions": {"north": EMBEDDED}})

    assert told == (
        "TAGFERRY_REGIONS must be JSON, since it sets several settings; set single ones as TAGFERRY_REGIONS__…"
    )


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"colour": "red"}, "colour is an unknown setting; remove it"),
        ({"sync": {"tags": 5}}, "sync.tags is an unknown setting; remove it"),
        ({"sync": {"wait_second": 5}}, 'sync.wait_second is an unknown setting; did you mean "wait_seconds"?'),
        ({"webhooks": [{"ulr": "https://h"}]}, 'webhook 1: ulr is an unknown setting; did you mean "url"?'),
        (
            {"regions": {"north": EMBEDDED | {"pasword": SECRET}}},
            'region north: pasword is an unknown setting; did you mean "password"?',
        ),
    ],
)
def test_an_unknown_setting_is_refused_by_its_name(document: dict[str, Any], told: str):
    assert refusal({"regions": {"north": EMBEDDED}} | document).startswith(told)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({}, "regions must name at least one region, in a section [regions.ID]"),
        ({"regions": {}}, "regions must name at least one region"),
        ({"regions": [REMOTE | {"password": SECRET}]}, "regions must be a section"),
        ({"regions": {"North": EMBEDDED}}, "region North must consist of lowercase letters and digits with single"),
        ({"regions": {"x" * 65: EMBEDDED}}, f"region {'x' * 65} must be 1 to 64 characters long"),
        ({"regions": {"north": "https://h"}}, "region north must be a section"),
        (
            {"regions": {"north": EMBEDDED}, "log_level": "loud"},
            'log_level must be "debug", "info", "warning" or "error": got "loud"',
        ),
        ({"regions": {"north": EMBEDDED}, "log_format": "xml"}, 'log_format must be "console" or "json"'),
        (
            {"regions": {"north": EMBEDDED}, "sync": {"max_tags_per_request": 0}},
            "sync.max_tags_per_request must be greater than 0: got 0",
        ),
        (
            {"regions": {"north": EMBEDDED}, "sync": {"verify": "yes"}},
            'sync.verify must be "copied", "all" or "off"',
        ),
        (
            {"regions": {"north": EMBEDDED}, "sync": {"referrers": "sometimes"}},
            'sync.referrers must be true, false or "required"',
        ),
        ({"regions": {"north": EMBEDDED}, "sync": {"wait_seconds": -1}}, "sync.wait_seconds must be at least 0"),
        (
            {"regions": {"north": EMBEDDED}, "limits": {"token_lifetime_hours": 0}},
            "limits.token_lifetime_hours must be greater than 0",
        ),
        (
            {"regions": {"north": EMBEDDED}, "limits": {"login_secret_lifetime_hours": 25}},
            "limits.login_secret_lifetime_hours must be at most 24",
        ),
        ({"regions": {"north": EMBEDDED}, "data_dir": 5}, "data_dir must be a path in quotes"),
        ({"regions": {"north": EMBEDDED}, "secret_key": [SECRET]}, "secret_key must be text in quotes"),
    ],
)
def test_a_setting_that_breaks_a_rule_is_named(document: dict[str, Any], told: str):
    assert refusal(document).startswith(told)


@pytest.mark.parametrize("address", ["8080", ":8080", "localhost", "localhost:", "localhost:http", "localhost:65536"])
def test_an_address_has_a_host_and_a_port(address: str):
    assert refusal(region(listen=address)) == f'region north: listen must have the form HOST:PORT: got "{address}"'


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::1]:65535", "localhost:0"])
def test_addresses_of_every_kind_are_taken(address: str):
    assert Settings.parse(region(listen=address)).regions["north"].listen == address


@pytest.mark.parametrize("field", ["registry", "public_url"])
@pytest.mark.parametrize("url", ["registry.example", "ftp://registry.example", "https://", ""])
def test_a_url_is_one_of_http(field: str, url: str):
    told = refusal(region(**EMBEDDED | {field: url}))

    assert told == f'region north: {field} must be a URL that starts with http:// or https://: got "{url}"'


@pytest.mark.parametrize("name", ["app", "Team/app", "team/", "1team/app", "team//app"])
def test_a_placeholder_is_an_organization_and_a_repository(name: str):
    told = refusal(region(**EMBEDDED, placeholder_repository=name))

    assert told.startswith("region north: placeholder_repository must have the form ORG/REPO (")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, 'requires listen = "HOST:PORT" to serve it, or registry = "https://…" to reach it'),
        ({"username": "robot"}, "requires username and password together; set or remove both"),
        ({"password": SECRET}, "requires username and password together; set or remove both"),
        (
            {"username": "robot", "password": SECRET, "docker_config": "/c.json"},
            "must have either username and password or docker_config, not both",
        ),
        ({"tls_certificate": "/c.pem"}, "requires tls_certificate and tls_key together; set or remove both"),
        ({"tls_key": "/k.pem"}, "requires tls_certificate and tls_key together; set or remove both"),
        ({"client_certificate": "/c.pem"}, "requires client_certificate and client_key together; set or remove both"),
        ({"ca_only": True}, "requires ca_file if ca_only is true"),
        (
            {"notifications_token": SECRET * 2},
            'requires listen = "HOST:PORT" to receive notifications, or no notifications_token',
        ),
    ],
)
def test_settings_of_a_region_must_go_together(settings: dict[str, Any], told: str):
    base = REMOTE if settings else {}

    assert refusal(region(**base | settings)) == f"region north {told}"


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"listen": "h:1"}, "http://h:1"),
        ({"listen": "h:1", "tls_certificate": "/c", "tls_key": "/k"}, "https://h:1"),
        ({"listen": "h:1", "public_url": "https://swr.example/"}, "https://swr.example"),
        ({"listen": "h:1", "registry": "https://registry.example"}, "https://registry.example"),
    ],
)
def test_a_region_is_reached_where_its_clients_see_it(settings: dict[str, Any], url: str):
    assert Settings.parse(region(**settings)).regions["north"].url == url


@pytest.mark.parametrize(
    ("settings", "pause"),
    [
        (EMBEDDED, None),
        (EMBEDDED | {"poll_interval_seconds": 5}, 5),
        (REMOTE, 60),
        (REMOTE | {"poll_interval_seconds": 0.5}, 0.5),
        (REMOTE | {"poll_interval_seconds": 0}, None),
    ],
)
def test_registries_that_cannot_tell_of_pushes_are_polled(settings: dict[str, Any], pause: float | None):
    assert Settings.parse(region(**settings)).regions["north"].poll_interval == pause


def test_a_token_that_could_be_guessed_is_refused_without_telling_it():
    told = refusal(region(**EMBEDDED, notifications_token=SECRET))
    assert told.startswith("region north: notifications_token")
    assert "16" in told


@pytest.mark.parametrize("wrong", [5, [SECRET], {"a": SECRET}])
@pytest.mark.parametrize("name", ["password", "username"])
def test_credentials_of_a_wrong_type_are_not_told(name: str, wrong: Any):
    assert refusal(region(**REMOTE | {"username": "robot", "password": SECRET} | {name: wrong})).startswith(
        f"region north: {name} must be text in quotes"
    )


HOOK = {"url": f"https://hook.example/{SECRET}?a=b", "secret": SECRET * 2}


@pytest.mark.parametrize(
    ("webhook", "told"),
    [
        ({"url": "https://hook.example"}, "webhook 1 requires cluster_id or cluster_name"),
        (
            HOOK | {"cluster_id": "1", "trigger_mode": "cci"},
            "webhook 1 must not have a cluster if",
        ),
        (HOOK | {"cluster_id": ""}, "webhook 1: cluster_id must not be empty"),
        (
            HOOK | {"cluster_id": "1", "secret": SECRET},
            "webhook 1: secret must have at least 16 characters; make one with: openssl rand",
        ),
        (HOOK | {"cluster_id": "1", "url": f"{SECRET}://hook"}, "webhook 1: url must be a URL that starts with http"),
        (HOOK | {"cluster_id": "1", "url": f"https://a:{SECRET}@hook"}, "webhook 1: url must not contain credentials"),
        (HOOK | {"cluster_id": "1", "url": f"https://hook/{SECRET} x"}, "webhook 1: url must be percent-encoded"),
        (HOOK | {"cluster_id": "1", "url": f"https://hook/#{SECRET}"}, "webhook 1: url must be percent-encoded"),
        (HOOK | {"cluster_id": "1", "organizations": ["Team"]}, "webhook 1: organizations.0 may contain only lower"),
        (
            HOOK | {"cluster_id": "1", "max_attempts": 0},
            "webhook 1: max_attempts must be at least 1",
        ),
        (HOOK | {"cluster_id": "1", "timeout_seconds": 0}, "webhook 1: timeout_seconds must be greater than 0"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused_without_telling_its_address(webhook: dict[str, Any], told: str):
    assert refusal(region(**EMBEDDED) | {"webhooks": [webhook]}).startswith(told)


def test_webhooks_are_taken_as_they_are_and_from_the_environment_too(monkeypatch: pytest.MonkeyPatch):
    document = region(**EMBEDDED) | {"webhooks": [HOOK | {"cluster_name": "one"}, HOOK | {"trigger_mode": "cci"}]}
    webhooks = Settings.parse(document).webhooks
    assert [webhook.url for webhook in webhooks] == [HOOK["url"]] * 2
    assert [(webhook.timeout_seconds, webhook.max_attempts, webhook.organizations) for webhook in webhooks] == [
        (10.0, 30, ())
    ] * 2

    monkeypatch.setenv("TAGFERRY_WEBHOOKS", '[{"cluster_id": "1", "url": "http://hook", "organizations": ["team"]}]')
    (webhook,) = Settings.parse(document).webhooks
    assert (webhook.url, webhook.organizations) == ("http://hook", ("team",))


def test_secrets_are_not_shown():
    settings = Settings.parse(
        {
            "regions": {"north": REMOTE | {"username": "robot", "password": SECRET}},
            "secret_key": SECRET,
            "database_url": f"postgresql+psycopg://me:{SECRET}@db/tagferry",
        }
    )

    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert settings.effective_database_url.count(SECRET) == 1


def test_settings_do_not_change_once_they_are_read():
    settings = Settings.parse({"regions": {"north": EMBEDDED}})

    with pytest.raises(ValueError, match="frozen"):
        settings.log_level = "debug"  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        settings.sync.max_tags_per_request = 1  # type: ignore[misc]


def test_a_file_that_is_not_there_is_not_found_and_told_how_to_make_one(tmp_path: Path):
    with pytest.raises(NotFound, match="does not exist; check its path, or write one with: tagferry init"):
        Settings.load(tmp_path / "none.toml")


@pytest.mark.parametrize("content", [b"regions = ", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_refused_by_its_name(tmp_path: Path, content: bytes):
    file = tmp_path / "tagferry.toml"
    file.write_bytes(content)

    with pytest.raises(Invalid, match=r"tagferry\.toml(: the last line)? is not (valid TOML|text in UTF-8)"):
        Settings.load(file)


def test_a_folder_is_no_file(tmp_path: Path):
    with pytest.raises(Invalid, match="is a directory"):
        Settings.load(tmp_path)


def test_a_data_directory_of_a_wrong_type_is_refused_by_its_name(tmp_path: Path):
    with pytest.raises(Invalid, match="data_dir"):
        Settings.load(write(tmp_path, 'data_dir = 5\n[regions.north]\nlisten = "h:1"'))


def test_by_default_a_region_accepts_every_image_as_it_is():
    accepts = Settings.parse(region(**REMOTE)).regions["north"].accepts

    assert accepts.model_dump() == {
        "platforms": (),
        "format": None,
        "attestations": True,
        "foreign_layers": False,
        "rewrite": False,
    }


def test_what_a_region_accepts_can_be_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAGFERRY_REGIONS__north__ACCEPTS__REWRITE", "true")
    told = {"platforms": ["linux/amd64", "linux/arm/v7"], "format": "docker", "foreign_layers": True}

    accepts = Settings.parse(region(**REMOTE, accepts=told)).regions["north"].accepts

    assert accepts.platforms == ("linux/amd64", "linux/arm/v7")
    assert (accepts.format, accepts.foreign_layers, accepts.rewrite) == ("docker", True, True)


@pytest.mark.parametrize(
    ("accepts", "told"),
    [
        ({"platforms": ["linux"]}, "region north: accepts.platforms.0 must have the form os/architecture"),
        ({"platforms": ["linux/a/b/c"]}, "region north: accepts.platforms.0 must have the form os/architecture"),
        ({"platforms": "linux/amd64"}, "region north: accepts.platforms must be a list"),
        ({"format": "schema1"}, 'region north: accepts.format must be "oci" or "docker"'),
        ({"rewrite": True}, "region north: accepts requires platforms or format if rewrite is true"),
        ({"rewrite": True, "foreign_layers": True}, "region north: accepts requires platforms or format"),
        (
            {"platform": "linux/amd64"},
            'region north: accepts.platform is an unknown setting; did you mean "platforms"?',
        ),
    ],
)
def test_what_a_region_cannot_accept_is_named(accepts: dict[str, Any], told: str):
    assert refusal(region(**REMOTE, accepts=accepts)).startswith(told)


@pytest.mark.parametrize("name", ["request_timeout_seconds", "stall_timeout_seconds"])
def test_a_region_without_time_for_its_requests_is_refused(tmp_path: Path, name: str):
    file = write(
        tmp_path,
        f"""
        [regions.north]
        listen = "127.0.0.1:8080"
        {name} = 0
        """,
    )
    with pytest.raises(Invalid, match=rf"region north: {name} must be greater than 0"):
        Settings.load(file)


def test_paths_are_relative_to_the_file_and_know_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home, folder = tmp_path / "home", tmp_path / "etc"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TAGFERRY_REGIONS__SOUTH__DOCKER_CONFIG", "~/south.json")
    file = write(
        folder,
        """
        audit_log = "~/audit.log"
        [regions.north]
        registry = "https://registry.example"
        docker_config = "~/.docker/config.json"
        ca_file = "ca.pem"
        [regions.south]
        registry = "https://registry.example"
        ca_file = "/etc/ca.pem"
        [[webhooks]]
        url = "https://hook.example"
        cluster_id = "c"
        ca_file = "hook.pem"
        """,
    )

    settings = Settings.load(file)

    north, south = settings.regions["north"], settings.regions["south"]
    assert (settings.data_dir, settings.audit_log) == (folder / "tagferry-data", home / "audit.log")
    assert (north.docker_config, north.ca_file) == (home / ".docker/config.json", folder / "ca.pem")
    assert (south.docker_config, south.ca_file) == (home / "south.json", Path("/etc/ca.pem"))
    assert settings.webhooks[0].ca_file == folder / "hook.pem"


def test_a_home_folder_of_nobody_is_refused_by_its_setting():
    told = refusal(region(registry="https://registry.example", docker_config="~nobody-here/config.json"))

    assert told.startswith("region north: docker_config must not begin with the home directory of an unknown user")


@pytest.mark.parametrize("proxy", ["none", "http://u:p%40@proxy.example.com:3128", "https://proxy.example.com"])
def test_a_region_may_have_its_own_proxy_whose_login_does_not_show(proxy: str):
    settings = Settings.parse(region(**REMOTE, proxy=proxy))
    assert settings.regions["north"].proxy == proxy
    assert "p%40" not in repr(settings)


@pytest.mark.parametrize("proxy", ["", "socks5://u:secret@proxy.example.com", "proxy.example.com:3128", "http://a b"])
def test_what_is_no_proxy_is_refused_without_its_login(proxy: str):
    told = refusal(region(**REMOTE, proxy=proxy))
    assert told.startswith('region north: proxy must be "none", or a URL that starts with http:// or https://')
    assert "secret" not in told
