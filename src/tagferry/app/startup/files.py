"""Read every file that the configuration names, before something depends on it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from tagferry.app.regions import endpoint_of
from tagferry.app.startup.certificates import check_authorities, check_client_pair, check_server_pair
from tagferry.app.startup.named_files import NamedFile
from tagferry.app.startup.problem import Problem, problem_of
from tagferry.app.startup.secrets import check_key
from tagferry.app.tracing import check_tracing
from tagferry.db.url import parse_url
from tagferry.errors import Invalid
from tagferry.file_faults import file_fault, may, user_name
from tagferry.settings import RegionSettings, Settings
from tagferry.settings.sources import setting_label
from tagferry.web.metrics_page import TOKEN_RULE, token_in

_POSTGRES_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")


def check_files(settings: Settings, *, serves: bool) -> list[Problem]:
    """Check all files of a configuration, and the registries' proxies.

    Args:
        settings: the configuration.
        serves: whether this process serves its regions; a worker needs neither their certificates nor the audit log.
    """
    problems = [problem for name, region in settings.regions.items() for problem in _region(name, region, serves)]
    for index, webhook in enumerate(settings.webhooks):
        if webhook.ca_file is not None:
            owner = setting_label(("webhooks", str(index)))
            problems += check_authorities(NamedFile(owner, "ca_file", webhook.ca_file))
    if serves and settings.audit_log is not None:
        problems += _audit_log(settings.audit_log)
    return [
        *problems,
        *_metrics_token(settings),
        *_tracing(settings),
        *_database_files(settings),
        *check_key(settings),
    ]


def _region(name: str, region: RegionSettings, serves: bool) -> Iterator[Problem]:
    def named(key: str, path: Path) -> NamedFile:
        return NamedFile(setting_label(("regions", name)), key, path)

    if serves and region.listen and region.tls_certificate is not None and region.tls_key is not None:
        yield from check_server_pair(named("tls_certificate", region.tls_certificate), named("tls_key", region.tls_key))
    if region.is_embedded:
        return
    own: list[Problem] = []
    if region.ca_file is not None:
        own += check_authorities(named("ca_file", region.ca_file))
    if region.client_certificate is not None and region.client_key is not None:
        certificate, key = (
            named("client_certificate", region.client_certificate),
            named("client_key", region.client_key),
        )
        own += check_client_pair(certificate, key)
    if region.docker_config is not None:
        own += _docker_config(named("docker_config", region.docker_config))
    yield from own
    if not own:
        try:
            endpoint_of(name, region)
        except Invalid as error:
            yield problem_of(setting_label(("regions", name)), error)


def _docker_config(file: NamedFile) -> list[Problem]:
    content = file.read()
    if isinstance(content, Problem):
        return [content]
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return [file.problem("is not JSON", "name the config.json of docker, or the auth.json of podman")]
    parts = [document, *(document.get(name) or {} for name in ("auths", "credHelpers"))] if _is_object(document) else []
    if not parts or not all(_is_object(part) for part in parts):
        return [file.problem("has another content than docker writes", "write it with: docker login")]
    return []


def _is_object(document: object) -> bool:
    return isinstance(document, dict)


def _audit_log(path: Path) -> list[Problem]:
    """Check that the log can be written, which may also be a device such as /dev/stdout."""
    file = NamedFile("", "audit_log", path)
    if not path.parent.is_dir():
        return [file.problem(f'cannot be created, since "{path.parent}" is not a directory', "create that directory")]
    if not path.exists():
        if may(path.parent, os.W_OK | os.X_OK):
            return []
        return [file.problem(f"cannot be created by user {user_name()}", "let this user write to its directory")]
    try:
        # A pipe that nothing reads would block.
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return [file.problem(file_fault(error, action="written"), "name a file that this user may write")]
    return []


def _metrics_token(settings: Settings) -> list[Problem]:
    """Check the file with the token of `/metrics`, if it is served."""
    if settings.metrics_listen is None or settings.metrics_token_file is None:
        return []
    if settings.metrics_token is not None:
        sentence = "metrics_token must not be set together with metrics_token_file"
        return [Problem("metrics_token", sentence, "remove one of them")]
    file = NamedFile("", "metrics_token_file", settings.metrics_token_file)
    content = file.read()
    if isinstance(content, Problem):
        return [content]
    return [] if token_in(content) is not None else [file.problem(TOKEN_RULE, "write one with: openssl rand -hex 32")]


def _tracing(settings: Settings) -> list[Problem]:
    """Check that traces can be recorded, if they are configured, and the file with the headers for the collector."""
    try:
        check_tracing(settings.tracing)
    except Invalid as error:
        return [problem_of("tracing", error)]
    return []


def _database_files(settings: Settings) -> list[Problem]:
    """Check the files in the URL of a PostgreSQL database."""
    try:
        query = parse_url(settings.effective_database_url).normalized_query
    except Invalid:
        # Opening the database explains what is wrong with it.
        return []
    problems = []
    for name in _POSTGRES_FILES:
        for path in query.get(name, ()):
            # The driver's name for the system's authorities.
            found = (
                b"" if (name, path) == ("sslrootcert", "system") else NamedFile("database_url", name, Path(path)).read()
            )
            if isinstance(found, Problem):
                problems.append(found)
    return problems
