"""`tagferry init`: write a configuration and create the administrator."""

import os
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from tagferry.app import ensure_admin
from tagferry.cli.accounts import accounts_of, show_first_admin
from tagferry.cli.event_loop import run
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, out
from tagferry.errors import Conflict, Invalid
from tagferry.names import RegionId
from tagferry.settings import Settings

app = typer.Typer(add_completion=False)

DEFAULT_REGIONS = ["cn-north-4=127.0.0.1:5004", "cn-north-208=127.0.0.1:5208"]

_HEAD = """\
# The configuration of tagferry. Environment variables override this file: TAGFERRY_SYNC__VERIFY=all sets verify in
# [sync]. Relative paths are relative to this file's directory; "~" is the home directory. Commented values are
# defaults or examples.

# The directory of the embedded registries, the database and the key file.
data_dir = "tagferry-data"

# The database: by default an SQLite file in data_dir; PostgreSQL for several processes.
# database_url = "postgresql+psycopg://tagferry:PASSWORD@db.example.com/tagferry"

# The keys that encrypt secrets in the database; by default a file in data_dir. Several processes need the same.
# secret_key = "…"           # made by: tagferry secret generate; better in TAGFERRY_SECRET_KEY than here

# trusted_proxies = ["10.0.0.5"]   # proxies whose X-Forwarded-For is trusted; none by default

# log_format = "console"   # or "json"
# log_level = "info"
# access_log = "api"   # log the end of each request to the APIs and the console; "all": also pushes and pulls; "off"
# audit_log = "audit.log"   # a file that gets the lines of the audit log as JSON, too; none by default
# metrics_listen = "127.0.0.1:9464"   # serve /metrics for Prometheus; by default, it is not served
# metrics_token = "…"                 # bearer token that /metrics requires; or metrics_token_file
# metrics_by_repository = false       # count ended jobs by repository, too

[sync]
# max_tags_per_request = 500    # maximum number of tags in one request
# wait_seconds = 55             # how long sync_images waits before it returns 504; the synchronization continues
# max_wait_seconds = 600        # the longest wait that a caller can request with Prefer: wait=N
# max_concurrent_tags = 32      # maximum number of tags that this process copies at once
# max_concurrent_tags_total = 96  # the same for all processes together; no limit by default
# max_concurrent_blobs = 32     # maximum number of blobs copied at once between two regions
# referrers = true              # copy signatures, attestations and SBOMs, too; "required": fail the tag if they cannot
#                               # be searched for or copied; false: do not copy them
# max_blob_locations = 1000000  # blob locations remembered in the database, to mount blobs instead of uploading them
# verify = "copied"             # verify the content of copied tags at the target; "all": of tags that are up to date,
#                               # too; "off": no verification
# splice = true                 # let the target alone verify blobs from 256 KiB on between registries without TLS, if
#                               # it is known to reject wrong content; this is faster; false: verify all content here
# tag_timeout_seconds = 3600    # timeout of the copy of one tag; none by default
# request_timeout_seconds = 7200  # timeout of the tags of a request, queue time included; none by default
# retry_minutes = 15            # how long to retry a tag while a registry is unavailable; 0: one attempt
# rule_retry_minutes = 1440     # the same for tags that rules synchronize
# max_concurrent_requests_per_user = 64  # sync requests of one user with open jobs; further ones get 429
# drain_timeout_seconds = 20    # how long a process that stops lets running copies finish
# history_days = 30             # how long to keep records of jobs and of deletions by retention policies

[retention]
# interval_hours = 24           # interval between two runs of a retention policy
# max_deletions_per_run = 100   # maximum number of deletions in one run; the rest follows an hour later
# clock_jump_pause_minutes = 60 # no deletions by age for this time after the clock jumped

[quotas]
# organizations = 100           # organizations that one user can create in a region; 0 here and below: unlimited
# repositories = 10000          # repositories of an organization
# bytes = 0                     # bytes of an organization's images in an embedded registry
# uploads = 1000                # open upload sessions of an organization

[audit]
# history_days = 90             # how long to keep audit records in the database
# max_records = 1000000         # maximum number of audit records; 0: only the audit log

[health]
# check_interval_seconds = 60   # interval between two checks of a region's registry; 0: on request only
# check_timeout_seconds = 10

[tracing]
# endpoint = "http://127.0.0.1:4318"   # send traces to this collector (OTLP over HTTP); needs the extra "otel"
# sample_ratio = 1.0                   # share of the traces that are recorded
# headers_file = "collector-headers"   # NAME=VALUE lines, such as for the collector's authentication
# propagate_to_registries = false      # send traceparent to the regions' registries, too

[limits]
# body_bytes = 1048576          # maximum size of a request body
# unknown_fields = "warn"       # name fields that an operation does not know in the response; "refuse": answer 400;
#                               # "ignore": ignore them silently
# token_lifetime_hours = 24     # lifetime of an IAM token
# login_secret_lifetime_hours = 6       # how long a login secret is valid
# registry_token_lifetime_minutes = 30  # lifetime of an embedded registry's token; clients renew it automatically
# lockout_failure_attempts = 5  # failed logins after which a name or key is locked for an address
# lockout_duration_seconds = 300
# connections = 4096            # maximum number of client connections to all regions of a process
# connections_per_address = 1024
# concurrent_requests = 128     # maximum number of requests in progress; further ones get 503
# header_timeout_seconds = 30   # time for a TLS handshake, and for the head of a request
# keep_alive_timeout_seconds = 75  # how long a connection may wait for its next request
# response_timeout_seconds = 30 # how long a request waits for registries, such as for a list; then it gets 504
# stall_timeout_seconds = 60    # disconnect clients that send or read almost nothing for this time
# disk_reserve_bytes = 1073741824 # bytes of an embedded registry's disk that pushes leave free
# scrub_interval_days = 30      # verify all embedded content once in this time; 0: never

# This process serves each region that has "listen": the management API and IAM on that address, and an embedded
# registry for docker push and pull, unless "registry" is set.
"""
_REGION = """
[regions.{name}]
listen = "{address}"
"""
_TAIL = """# tls_certificate = "server.pem"
# tls_key = "server.key"
# public_url = "https://registry.example.com"   # the URL that clients use, e.g. that of a proxy
# hosts = ["registry.internal:8443"]            # additional hosts that clients sign requests for
# notifications_token = "…"                     # token for the registry's notifications; at least 16 characters
# placeholder_repository = "team/app"           # for the vendor's SDK samples, which set no names

# A region can also be a remote registry. Without "listen", it is only a target.
# [regions.eu-west-1]
# registry = "https://registry.example.com"
# username = "robot"
# password = "…"           # or TAGFERRY_REGIONS__EU-WEST-1__PASSWORD, or docker_config = "~/.docker/config.json"
# ca_file = "ca.pem"         # certificate authorities to trust in addition to the system's
# ca_only = true             # trust only those in ca_file
# insecure_skip_verify = true   # do not verify the registry's certificate; for tests only
# client_certificate = "client.pem"   # for mutual TLS; requires client_key, unencrypted
# client_key = "client.key"
# proxy = "http://proxy.example.com:3128"   # or "none"; default: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY
# token_hosts = ["sso.example.org"]   # token servers in other domains that may receive the credentials
# redirect_hosts = ["minio.internal"]   # hosts with private addresses that a public registry may redirect to
# max_bytes_per_second = 50000000   # maximum bandwidth; none by default
# max_connections = 64              # maximum number of concurrent requests to the registry
# max_concurrent_tags = 8           # maximum number of tags copied to this region at once; no limit by default
# max_tags_per_minute = 60          # maximum number of copies to this region started in a minute; no limit by default
# request_timeout_seconds = 120     # timeout of a request without a blob
# stall_timeout_seconds = 60        # retry after this time without progress
# min_bytes_per_second = 1024       # minimum rate of a blob's transfer over that time; 0: none
# poll_interval_seconds = 60        # interval of polling repositories with rules for pushes; 0: never
# organizations = "open"            # use the registry's organizations; "managed": only those created in tagferry exist

# The images that a region accepts as a target; by default all, unchanged. Others are rejected.
# [regions.eu-west-1.accepts]
# platforms = ["linux/amd64", "linux/arm64"]
# format = "docker"        # or "oci"
# attestations = false     # copy images without build attestations, which some registries refuse
# rewrite = true           # convert other images instead, which changes their digests and drops their signatures
# foreign_layers = true    # copy non-distributable layers, too, if the source registry has them

# A webhook for triggers with this cluster. Users cannot set the URL.
# [[webhooks]]
# cluster_id = "5b28c12f-dc10-11e9-97b3-0255ac1001b5"   # or cluster_name, or both; or trigger_mode = "cci"
# url = "https://deployer.example.com/hook"
# secret = "…"               # signs the calls; at least 16 characters
# organizations = ["team"]   # only for triggers of these organizations; all by default
# timeout_seconds = 10       # timeout of a call
# max_attempts = 30          # maximum number of attempts of a call
# ca_file = "ca.pem"         # also ca_only and proxy, as for a region
"""


@app.command()
def init(
    config: ConfigFile = DEFAULT_CONFIG,
    region: Annotated[
        list[str] | None, typer.Option(metavar="ID=HOST:PORT", help="A region to serve. Repeatable.")
    ] = None,
) -> None:
    """Write a commented configuration, create the administrator, and show its secrets once."""
    run(_init(config, region or DEFAULT_REGIONS))


async def _init(config: Path, regions: list[str]) -> None:
    write_configuration(config, regions)
    async with accounts_of(config, needs_secrets=True) as accounts:
        admin = await ensure_admin(accounts)
    if admin is not None:
        show_first_admin(admin)


def write_configuration(config: Path, regions: list[str]) -> None:
    """Write a commented configuration with these regions; raises Conflict if the file exists."""
    _write(config, configuration_text(regions))
    out.print(f"Wrote {config}", soft_wrap=True, markup=False)


def configuration_text(regions: list[str]) -> str:
    """Return a commented configuration with these regions."""
    names = [region.partition("=")[0] for region in regions]
    if len(set(names)) < len(names):
        raise Invalid("--region", "must name each region once", " ".join(names))
    return _HEAD + "".join(map(_section, regions)) + _TAIL


def _section(region: str) -> str:
    name, separator, address = region.partition("=")
    if not separator or not address:
        raise Invalid("--region", "must have the form ID=HOST:PORT", region)
    section = _REGION.format(name=RegionId(name, field="--region"), address=address)
    try:
        # An invalid configuration must not be written, since the next init would not overwrite it.
        Settings.parse(tomllib.loads(section))
    except (Invalid, tomllib.TOMLDecodeError):
        raise Invalid("--region", "must have the form ID=HOST:PORT", region) from None
    return section


def _write(config: Path, text: str) -> None:
    config.parent.mkdir(parents=True, exist_ok=True)
    try:
        # The file may later contain registry passwords, so only its owner may read it.
        handle = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Conflict(
            "configuration", f"{config} exists already; edit it, or use another path with --config"
        ) from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
