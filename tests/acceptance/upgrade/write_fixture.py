"""Write the fixture of the upgrade test: an installation of the version before names were standardized.

    python tests/acceptance/upgrade/write_fixture.py CHECKOUT [DATABASE_URL]

CHECKOUT is a checkout of commit 95258d2, the last one with the former names; no version was released before it. That
version's own program is configured, served and used over HTTP, and killed while jobs run and wait. Then its files and
its database are written as text to `sqlite/`, or with the URL of an empty PostgreSQL database to `postgresql/`:

- `tagferry.toml`: what its `tagferry init` wrote, with every setting that had another name;
- `secrets.json`: the passwords, keys and the token that it gave out;
- `files.json`: its data directory, without the database. A file is base64, and `=PATH` a hard link;
- `database.sql`: its database, for PostgreSQL by `pg_dump`.

The day of the dump becomes 2025-01-01, so that nothing lies in the future of a machine whose clock is behind. All
secrets are of this fixture only.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
NORTH, SOUTH, FAR = "cn-north-4", "cn-north-208", "eu-west-1"
DAY = "2025-01-01"

SETTINGS = """
[sync]
tag_limit = 50
tag_seconds = 3600
request_seconds = 3000000000
tags_in_flight = 1
blobs_in_flight = 4
jobs_in_flight = 8
drain_seconds = 1
history_days = 36500
attachments = true
blob_locations = 1000
active_requests = 60

[retention]
interval_hours = 1

[limits]
token_hours = 876000
login_hours = 12
registry_token_minutes = 20
failed_attempts = 7
lock_seconds = 200
"""
FAR_REGION = """
[regions.eu-west-1]
registry = "http://127.0.0.1:5000"
organizations = "open"
bytes_per_second = 50000000
request_seconds = 100
silence_seconds = 50
poll_seconds = 0
jobs_in_flight = 6
jobs_per_minute = 600

[[webhooks]]
cluster_name = "production"
url = "http://127.0.0.1:9/hook"
seconds = 5
attempts = 20
"""
"""Port 9 is `discard`, where nothing listens."""


class FarRegistry(BaseHTTPRequestHandler):
    """A registry that has no image, and never answers a request for blobs, so that a job runs until it is killed."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/v2/" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        if "/blobs/" in self.path:
            time.sleep(600)
        self.do_GET()

    def do_POST(self) -> None:
        time.sleep(600)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Installation:
    """The old version in a folder."""

    def __init__(self, checkout: Path, folder: Path, database_url: str | None) -> None:
        self.folder = folder
        ports = {name: _free_port() for name in (NORTH, SOUTH)}
        self._far = ThreadingHTTPServer(("127.0.0.1", 0), FarRegistry)
        threading.Thread(target=self._far.serve_forever, daemon=True).start()
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(checkout / "src"),
            "NO_COLOR": "1",
            "COLUMNS": "200",
            **{f"TAGFERRY_REGIONS__{name}__LISTEN": f"127.0.0.1:{port}" for name, port in ports.items()},
            **({"TAGFERRY_DATABASE_URL": database_url} if database_url else {}),
        }
        self.token = ""

    @property
    def _program(self) -> list[str]:
        return [sys.executable, "-c", "from tagferry.cli import main; main()"]

    def run(self, *arguments: str) -> str:
        """Run a command, and return its output."""
        done = subprocess.run(
            [*self._program, *arguments],
            cwd=self.folder,
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def serve(self) -> subprocess.Popen[bytes]:
        """Start the server."""
        far = f"http://127.0.0.1:{self._far.server_port}"
        environment = {**self._environment, f"TAGFERRY_REGIONS__{FAR}__REGISTRY": far}
        process = subprocess.Popen([*self._program, "serve"], cwd=self.folder, env=environment)
        for url in self.urls.values():
            _until(lambda url=url: _answers(f"{url}/healthz"))
        return process

    def api(self, method: str, path: str, body: Any = None, *, region: str = NORTH) -> Any:
        """Call the management API with the administrator's token."""
        headers = {"X-Auth-Token": self.token, "Content-Type": "application/json"}
        _, content = _http(method, f"{self.urls[region]}{path}", headers, json.dumps(body).encode() if body else None)
        return json.loads(content) if content else None

    def push(self, repository: str, tag: str, text: str, *, password: str) -> None:
        """Push an image with one layer to the north."""
        login = base64.b64encode(f"admin:{password}".encode()).decode()
        scope = f"service={self.urls[NORTH].removeprefix('http://')}&scope=repository:{repository}:pull,push"
        _, answer = _http("GET", f"{self._realm()}?{scope}", {"Authorization": f"Basic {login}"})
        bearer = {"Authorization": f"Bearer {json.loads(answer)['token']}"}
        v2 = f"{self.urls[NORTH]}/v2/{repository}"
        layer = f"layer {text}".encode()
        rootfs = {"type": "layers", "diff_ids": [_digest(layer)]}
        created = {"architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z", "rootfs": rootfs}
        config = json.dumps(created).encode()
        for blob in (layer, config):
            begun, _ = _http("POST", f"{v2}/blobs/uploads/", bearer)
            location = begun["Location"]
            location = location if location.startswith("http") else f"{self.urls[NORTH]}{location}"
            separator = "&" if "?" in location else "?"
            binary = {**bearer, "Content-Type": "application/octet-stream"}
            _http("PUT", f"{location}{separator}digest={_digest(blob)}", binary, blob)
        kind = "application/vnd.oci.image."
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{kind}manifest.v1+json",
            "config": {"mediaType": f"{kind}config.v1+json", "digest": _digest(config), "size": len(config)},
            "layers": [{"mediaType": f"{kind}layer.v1.tar", "digest": _digest(layer), "size": len(layer)}],
        }
        typed = {**bearer, "Content-Type": f"{kind}manifest.v1+json"}
        _http("PUT", f"{v2}/manifests/{tag}", typed, json.dumps(manifest).encode())

    def _realm(self) -> str:
        try:
            _http("GET", f"{self.urls[NORTH]}/v2/", {})
        except urllib.error.HTTPError as refused:
            (realm,) = re.findall(r'realm="([^"]+)"', refused.headers["WWW-Authenticate"])
            return str(realm)
        raise RuntimeError("the registry requires no token")


def main() -> None:
    """Write the fixture."""
    checkout, database_url = Path(sys.argv[1]).resolve(), sys.argv[2] if sys.argv[2:] else None
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(checkout, Path(folder), database_url)
        secrets = _configure(installation)
        process = installation.serve()
        try:
            _use(installation, secrets)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        data = Path(folder) / "tagferry-data"
        dump = _dump_postgres(database_url) if database_url else _dump_sqlite(data / "tagferry.db")
        written = FOLDER / ("postgresql" if database_url else "sqlite")
        written.mkdir(exist_ok=True)
        (written / "tagferry.toml").write_text((Path(folder) / "tagferry.toml").read_text())
        (written / "files.json").write_text(json.dumps(_files(data), indent=1) + "\n")
        (written / "secrets.json").write_text(json.dumps(secrets, indent=1) + "\n")
        (written / "database.sql").write_text(dump.replace(datetime.now(UTC).date().isoformat(), DAY) + "\n")


def _configure(installation: Installation) -> dict[str, str]:
    """Write the configuration, and create users and organizations."""
    shown = installation.run("init", "--region", f"{NORTH}=127.0.0.1:5004", "--region", f"{SOUTH}=127.0.0.1:5208")
    secrets = {f"admin {name}": _shown(shown, name) for name in ("password", "access key", "secret key")}
    file = installation.folder / "tagferry.toml"
    written = file.read_text()
    written = re.sub(r"^\[(sync|retention|limits)\]\n(# .*\n)*", "", written, flags=re.MULTILINE)
    # A section ends the one before it, so the new ones are appended.
    file.write_text(written + SETTINGS + FAR_REGION)
    secrets["carol password"] = _shown(installation.run("user", "create", "carol"), "password")
    installation.run("user", "create", "dora", "--domain", "partners")
    key = installation.run("key", "create", "carol", "--for", "continuous integration")
    secrets |= {f"carol {name}": _shown(key, name) for name in ("access key", "secret key")}
    for organization in (f"{NORTH}/team", f"{NORTH}/archive", f"{SOUTH}/release", f"{SOUTH}/copies"):
        installation.run("org", "create", organization)
    installation.run("org", "grant", f"{NORTH}/team", "carol", "edit")
    return secrets


def _use(old: Installation, secrets: dict[str, str]) -> None:
    """Leave something in every table."""
    user = {"name": "admin", "password": secrets["admin password"]}
    identity = {"methods": ["password"], "password": {"user": user}}
    headers, _ = _http(
        "POST",
        f"{old.urls[NORTH]}/v3/auth/tokens",
        {"Content-Type": "application/json"},
        json.dumps({"auth": {"identity": identity}}).encode(),
    )
    old.token = secrets["admin token"] = headers["X-Subject-Token"]
    repos = "/v2/manage/namespaces/{}/repos"
    team = repos.format("team")
    metadata = {"repository": "app", "is_public": False, "category": "linux", "description": "the team's application"}
    old.api("POST", team, metadata)
    old.api("POST", team, {**metadata, "repository": "old", "description": ""})
    old.api("POST", repos.format("release"), metadata, region=SOUTH)
    carol = next(user for user in old.api("GET", "/v3/users")["users"] if user["name"] == "carol")
    old.api("POST", f"{team}/app/access", [{"user_id": carol["id"], "user_name": "carol", "auth": 7}])
    share = {"access_domain": "partners", "permit": "read", "deadline": "forever", "description": "for partners"}
    old.api("POST", "/v2/manage/namespaces/team/repositories/app/access-domains", share)
    rule = {"remoteRegionId": SOUTH, "remoteNamespace": "release", "override": True, "syncAuto": True}
    old.api("POST", f"{team}/app/sync_repo", rule)
    back = {**rule, "remoteRegionId": NORTH, "remoteNamespace": "archive"}
    old.api("POST", f"{repos.format('release')}/app/sync_repo", back, region=SOUTH)
    cluster = {"trigger_mode": "cce", "cluster_id": "", "cluster_name": "production", "cluster_ns": "default"}
    deployment = {"app_type": "deployments", "application": "web", "container": ""}
    condition = {"trigger_type": "all", "condition": ".*"}
    trigger = {"name": "deploy", "action": "update", "enable": "true", **condition, **cluster, **deployment}
    old.api("POST", f"{team}/app/triggers", trigger)
    for tag in ("v1", "v2"):
        old.push("team/app", tag, tag, password=secrets["admin password"])
        old.push("team/old", tag, f"old {tag}", password=secrets["admin password"])
    _until(lambda: len(_ended(old.api("GET", f"{repos.format('release')}/app/sync_job", region=SOUTH))) == 2)
    policy = {"algorithm": "or", "rules": [{"template": "tag_rule", "params": {"num": "1"}, "tag_selectors": []}]}
    old.api("POST", f"{team}/old/retentions", policy)
    _until(lambda: old.api("GET", f"{team}/old/retentions/histories")["retention_log"])
    copies = {"imageTag": ["v1", "none"], "remoteRegionId": SOUTH, "remoteNamespace": "copies", "override": False}
    # It fails, since there is no tag "none".
    with contextlib.suppress(urllib.error.HTTPError):
        old.api("POST", f"{team}/app/sync_images", copies)
    _until(lambda: len(_ended(old.api("GET", f"{team}/app/sync_job"))) >= 4)
    far = {"imageTag": ["v1", "v2"], "remoteRegionId": FAR, "remoteNamespace": "backup", "override": False}
    for override in (False, True):
        call = (f"{team}/app/sync_images", {**far, "override": override})
        threading.Thread(target=_wait_in_vain, args=(old, *call), daemon=True).start()
        _until(lambda number=3 if override else 2: _open(old.api("GET", f"{team}/app/sync_job")) >= number)
    _until(lambda: any(job["status"] == "running" for job in old.api("GET", f"{team}/app/sync_job")))


def _wait_in_vain(old: Installation, path: str, body: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        old.api("POST", path, body)


def _ended(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [job for job in jobs if job["status"] not in ("waiting", "running")]


def _open(jobs: list[dict[str, Any]]) -> int:
    return len(jobs) - len(_ended(jobs))


def _files(folder: Path) -> dict[str, str]:
    """Return the content of files by their path, and hard links to them."""
    found: dict[str, str] = {}
    first: dict[int, str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            found[f"{name}/"] = ""
        elif not name.startswith("tagferry.db"):
            target = first.setdefault(path.stat().st_ino, name)
            found[name] = base64.b64encode(path.read_bytes()).decode() if target == name else f"={target}"
    return found


def _dump_sqlite(file: Path) -> str:
    with closing(sqlite3.connect(file)) as database:
        return "\n".join(database.iterdump())


def _dump_postgres(url: str) -> str:
    plain = url.replace("postgresql+psycopg", "postgresql")
    command = ["pg_dump", "--inserts", "--no-owner", "--no-privileges", plain]
    dump = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # Settings and meta-commands of one release of PostgreSQL are unknown to others.
    unwanted = re.compile(r"^(SET |SELECT pg_catalog\.set_config|\\|--|$)")
    return "\n".join(line for line in dump.splitlines() if not unwanted.match(line))


def _http(method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> tuple[Any, bytes]:
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        error.add_note(f"{method} {url}")
        raise


def _answers(url: str) -> bool:
    try:
        _http("GET", url, {})
    except OSError:
        return False
    return True


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the old version did not get there")
        time.sleep(0.1)


def _shown(output: str, name: str) -> str:
    (found,) = re.findall(rf"^ *{name} +(\S+)$", output, re.MULTILINE)
    return str(found)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


if __name__ == "__main__":
    main()
