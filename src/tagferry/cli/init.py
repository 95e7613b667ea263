"""`tagferry init`: write a configuration and create the administrator."""

import os
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from tagferry.app import ensure_admin
from tagferry.cli.accounts import accounts_of, show_first_admin
from tagferry.cli.options import DEFAULT_CONFIG, ConfigFile, out, run
from tagferry.errors import Conflict, Invalid
from tagferry.names import RegionId
from tagferry.settings import Settings

app = typer.Typer()

DEFAULT_REGIONS = ["cn-north-4=127.0.0.1:5004", "cn-north-208=127.0.0.1:5208"]

_HEAD = """\
# tagferry's configuration. Every setting can also be given by an environment variable, which wins over this file:
# TAGFERRY_SYNC__TAG_LIMIT=50 is tag_limit under [sync]. Relative paths are relative to this file's folder; "~" is the
# home folder.

# Where the embedded registries, the database and the key file live.
data_dir = "tagferry-data"

# The database: an SQLite file in data_dir by default, or PostgreSQL.
# database_url = "postgresql+psycopg://tagferry:PASSWORD@db.example.com/tagferry"

# trusted_proxies = ["10.0.0.5"]   # proxies whose X-Forwarded-For is used; none by default

# log_format = "console"   # or "json"
# log_level = "info"
# metrics_listen = "127.0.0.1:9090"   # where Prometheus finds /metrics, without a login

[sync]
# tag_limit = 500          # tags that one request may name
# wait_seconds = 55        # how long sync_images waits before it answers 504 while the synchronization goes on
# tags_in_flight = 32
# blobs_in_flight = 32
# attachments = true       # copy signatures, attestations and bills of materials too; "required": fail the tag if they
#                          # cannot be searched for or copied; false: leave them
# blob_locations = 1000000 # remembered in the database, so that a target is not sent a blob that it has elsewhere
# verify = "copied"        # proves that all below a copied tag is there; "all": below tags in place too; "off"
# splice = true            # large blobs between registries without TLS are verified by the target alone, once it is
#                          # found to refuse wrong bytes; it is faster, and false has all bytes verified here too
# tag_seconds = 3600       # after which the copy of one tag is given up
# retry_minutes = 15       # how long to retry a tag while a registry is unavailable; 0: one attempt
# automatic_retry_minutes = 1440 # the same for tags that rules synchronize
# active_requests = 64     # of one user
# history_days = 30        # for which it is on record what became of each tag, and what retention deleted

[retention]
# interval_hours = 24      # from one time that a retention policy is carried out to the next
# tags_per_run = 100       # deleted by one run of a policy at most; the rest follow an hour later
# settling_minutes = 60    # without deletions by age after the clock jumped

[quotas]
# organizations = 100      # that one user may create in a region; 0 here and below: unlimited
# repositories = 10000     # of an organization
# bytes = 0                # of an organization's images in an embedded region
# uploads = 1000           # open upload sessions of an organization

[limits]
# body_bytes = 1048576
# token_hours = 24
# login_hours = 6          # how long a login secret lets into the registry
# registry_token_minutes = 30 # how long a token of the embedded registry lasts; clients renew it by themselves
# failed_attempts = 5      # after which a name or key is locked for the address that failed
# lock_seconds = 300
# connections = 4096       # of clients, to all regions of a process
# connections_per_address = 1024
# requests = 128           # in progress at once; further ones are answered with 503
# stall_seconds = 60       # after which a client that sends or reads almost nothing is cut off
# disk_reserve = 1073741824   # bytes of an embedded registry's disk that pushes leave free
# scrub_days = 30          # in which all embedded content is verified once; 0: never

# A region with "listen" is served by this process: the management API and IAM on that address, and, as its
# registry is embedded by default, docker push and pull too.
"""
_REGION = """
[regions.{name}]
listen = "{address}"
"""
_TAIL = """# tls_certificate = "server.pem"
# tls_key = "server.key"
# public_url = "https://registry.example.com"   # how clients reach it, behind a proxy say
# hosts = ["registry.internal:8443"]            # further names for signed requests
# notifications_token = "…"                     # 16 characters or more; lets the registry tell of pushes
# placeholder_repository = "team/app"           # for the vendor's SDK samples, which set no names

# A registry elsewhere is a region too. Without "listen" it is only a target.
# [regions.eu-west-1]
# registry = "https://registry.example.com"
# username = "robot"
# password = "…"           # or TAGFERRY_REGIONS__EU-WEST-1__PASSWORD, or docker_config = "~/.docker/config.json"
# ca_file = "ca.pem"         # authorities to trust in addition to the system's
# ca_only = true             # trust only those in ca_file
# client_certificate = "client.pem"   # for a registry that requires mutual TLS; with client_key, not encrypted
# client_key = "client.key"
# proxy = "http://proxy.example.com:3128"   # or "none"; default: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY
# token_hosts = ["sso.example.org"]   # token servers in other domains that get the credentials
# redirect_hosts = ["minio.internal"]   # hosts at private addresses that a public registry may redirect to
# bytes_per_second = 50000000
# request_seconds = 120        # a request as a whole, unless it carries a blob
# silence_seconds = 60         # without a byte moving, before it is tried again
# min_bytes_per_second = 1024   # minimum rate of a blob, over that time; 0: none
# poll_seconds = 60            # between two looks for what was pushed to repositories with a rule; 0: never
# organizations = "open"   # the registry governs its organizations; "managed": only those created in tagferry exist

# What any region takes as a target; by default every image, bit-identically. What it does not take is refused.
# [regions.eu-west-1.accepts]
# platforms = ["linux/amd64", "linux/arm64"]
# format = "docker"        # or "oci"
# attestations = false     # copy images without build attestations, which some registries refuse
# rewrite = true           # make what is not taken into what is, under new digests, without its signatures
# foreign_layers = true    # hold non-distributable layers too, where the source's registry does

# What the triggers of repositories call that name this cluster; users cannot name an address.
# [[webhooks]]
# cluster_id = "5b28c12f-dc10-11e9-97b3-0255ac1001b5"   # or cluster_name, or both; or trigger_mode = "cci"
# url = "https://deployer.example.com/hook"
# secret = "…"               # 16 characters or more; the calls are signed with it
# organizations = ["team"]   # whose triggers may call it; all of them by default
# seconds = 10               # for one call
# attempts = 30
# ca_file = "ca.pem"         # also ca_only and proxy, as for a region
"""


@app.command()
def init(
    config: ConfigFile = DEFAULT_CONFIG,
    region: Annotated[
        list[str] | None, typer.Option(help="A region to serve, as ID=HOST:PORT; may be given several times.")
    ] = None,
) -> None:
    """Write a commented configuration, create the administrator and show its secrets once."""
    run(_init(config, region or DEFAULT_REGIONS))


async def _init(config: Path, regions: list[str]) -> None:
    write_configuration(config, regions)
    async with accounts_of(config) as accounts:
        admin = await ensure_admin(accounts)
    if admin is not None:
        show_first_admin(admin)


def write_configuration(config: Path, regions: list[str]) -> None:
    """Write a commented configuration of these regions; raises Conflict where there is one."""
    names = [region.partition("=")[0] for region in regions]
    if len(set(names)) < len(names):
        raise Invalid("--region", "must name each region once", " ".join(names))
    sections = [_section(region) for region in regions]
    _write(config, _HEAD + "".join(sections) + _TAIL)
    out.print(f"Wrote {config}", soft_wrap=True, markup=False)


def _section(region: str) -> str:
    name, separator, address = region.partition("=")
    if not separator or not address:
        raise Invalid("--region", "must have the form ID=HOST:PORT", region)
    section = _REGION.format(name=RegionId(name, field="--region"), address=address)
    try:
        # What serve would not take must not be written, or the next init would find a configuration in its way.
        Settings.parse(tomllib.loads(section))
    except (Invalid, tomllib.TOMLDecodeError):
        raise Invalid("--region", "must have the form ID=HOST:PORT", region) from None
    return section


def _write(config: Path, text: str) -> None:
    config.parent.mkdir(parents=True, exist_ok=True)
    try:
        # The file may come to hold registry passwords, so only its owner may read it.
        handle = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Conflict("configuration", f"{config} exists already; edit it, or name another with --config") from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
