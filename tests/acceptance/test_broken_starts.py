"""A server that cannot do its work does not start: it ends with 1, and one sentence that says what to do."""

import os
import re
import signal
import socket
import subprocess
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path

import pytest

from tagferry.cli import main, serve
from tests.acceptance.served import PROGRAM, clean_environment, serving, tagferry
from tests.support.broken.addresses import ADDRESSES
from tests.support.broken.files import FILES
from tests.support.broken.settings import SETTINGS
from tests.support.broken.site import KEY, OTHER_KEY, Case, Site, as_nobody, site
from tests.support.broken.storage import STORAGE, database_that_does_not_answer
from tests.support.disks import IS_ROOT, small_disk

pytestmark = pytest.mark.long

CASES = (*SETTINGS, *FILES, *ADDRESSES, *STORAGE)
LIBRARIES = re.compile(r"Traceback|\[Errno|Input should|Extra inputs|Error:|sqlite3\.|sqlalche\.me|psycopg\.|Expecting")
"""Words that no error of this program contains."""
NEXT_STEP = re.compile(r"; | must ")
"""What every error has: a remedy, or the rule that a setting must follow."""


class Started(Exception):
    """The server has started."""


async def refuse_to_wait(_is_waiting: object) -> None:
    raise Started


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch):
    """Make a site whose commands run in this process."""
    for name in os.environ:
        if name.startswith("TAGFERRY_") or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(serve, "until_signalled", refuse_to_wait)
    before = os.umask(0o022)
    with site() as made:
        monkeypatch.chdir(made.folder)
        yield made
        monkeypatch.undo()
    os.umask(before)


def run(broken: Site, *arguments: str) -> int:
    """Run a command of the site, and return its exit code."""
    with pytest.MonkeyPatch.context() as patch, as_nobody() if broken.is_nobody else nullcontext():
        for name, value in broken.environment.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *broken.arguments])
    return ended.value.code if isinstance(ended.value.code, int) else 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_broken_site_does_not_start(case: Case, broken: Site, capfd: pytest.CaptureFixture[str]):
    sentence = case(broken)

    code = run(broken, "serve")

    shown = capfd.readouterr()
    errors = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert errors == [f"error: {sentence}"]
    assert NEXT_STEP.search(sentence) is not None
    assert code == 1
    assert LIBRARIES.search(shown.out + shown.err) is None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_check_finds_what_a_start_would(case: Case, broken: Site, capfd: pytest.CaptureFixture[str]):
    sentence = case(broken)
    if broken.arguments == ():
        pytest.skip("a check writes no configuration")
    before = contents(broken.folder)

    code = run(broken, "serve", "--check")

    first, _, more = sentence.partition(" (and 1 more error")
    listed = [line for line in capfd.readouterr().out.splitlines() if line.startswith("error: ")]
    assert listed[0] == f"error: {first}"
    assert len(listed) == (2 if more else 1)
    assert code == 1
    assert contents(broken.folder) == before


def contents(folder: Path) -> set[Path]:
    """Return all paths below a directory; SQLite's files beside an open database come and go."""
    return {path for path in folder.rglob("*") if not path.name.endswith(("-wal", "-shm"))}


def test_a_check_lists_all_errors_at_once(broken: Site, capfd: pytest.CaptureFixture[str]):
    broken.with_key()
    broken.write(OTHER_KEY, "tagferry-data/secret.key")
    broken.configure(
        'tls_certificate = "a.pem"\ntls_key = "b.pem"',
        top=f'metrics_listen = "127.0.0.1:{broken.port}"\naudit_log = "none/audit.log"',
    )

    assert run(broken, "serve", "--check") == 1

    listed = capfd.readouterr().out.splitlines()
    found = [re.search(r"tls_certificate|tls_key|audit_log|metrics_listen|key file", line) for line in listed]
    assert [match and match[0] for match in found] == [
        "tls_certificate",
        "tls_key",
        "audit_log",
        "key file",
        "metrics_listen",
    ]
    assert all(line.startswith("error: ") for line in listed)


def test_a_check_lists_all_wrong_settings_at_once(broken: Site, capfd: pytest.CaptureFixture[str]):
    broken.configure("max_conections = 5\nmax_bytes_per_second = -1", top='log_level = "loud"')

    assert run(broken, "serve", "--check") == 1

    listed = capfd.readouterr().out
    for key in ("max_conections", "max_bytes_per_second", "log_level"):
        assert key in listed
    assert len(listed.splitlines()) == 3


def test_a_check_of_a_new_site_creates_nothing(broken: Site, capfd: pytest.CaptureFixture[str]):
    assert run(broken, "serve", "--check") == 0

    assert capfd.readouterr().out.splitlines() == [
        f'note: the database "{broken.database}" does not exist; the first start creates it, and an administrator',
        "tagferry.toml is valid, and everything that it names can be used",
    ]
    assert contents(broken.folder) == {broken.folder / "tagferry.toml"}


def test_a_check_of_a_worker_needs_neither_certificates_nor_addresses(broken: Site, capfd: pytest.CaptureFixture[str]):
    broken.with_tls("a.pem", "b.pem")

    assert run(broken, "worker", "--check") == 1

    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == ("error: database_url must name a PostgreSQL database; with SQLite, run only tagferry serve")
    assert not any("pem" in line for line in lines)


def test_a_worker_without_its_database_does_not_start(broken: Site, capfd: pytest.CaptureFixture[str]):
    sentence = database_that_does_not_answer(broken)

    assert run(broken, "worker") == 1

    assert f"error: {sentence}" in capfd.readouterr().err.splitlines()


@pytest.mark.skipif(not IS_ROOT, reason="mounts a disk")
def test_a_full_disk_stops_a_start_and_is_a_warning_for_a_registry(broken: Site, capfd: pytest.CaptureFixture[str]):
    root = broken.data / "registries" / "north"
    root.mkdir(parents=True)
    with small_disk(root, 1024 * 1024):
        fill(root)
        assert run(broken, "serve", "--check") == 0
    warning = f'warning: region north: the directory "{root}" is on a full disk; free some space'
    assert warning in capfd.readouterr().out.splitlines()
    with small_disk(broken.data, 1024 * 1024):
        fill(broken.data)
        assert run(broken, "serve") == 1
    assert f'error: data_dir "{broken.data}" is on a full disk; free some space' in capfd.readouterr().err.splitlines()


def fill(disk: Path) -> None:
    with (disk / "full").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_part_of_the_secrets_that_cannot_be_decrypted_is_a_warning(broken: Site, capfd: pytest.CaptureFixture[str]):
    broken.with_key()
    broken.write(KEY, "tagferry-data/secret.key")
    with ExitStack() as stack:
        import sqlite3

        connection = stack.enter_context(sqlite3.connect(broken.database))
        connection.execute(
            "INSERT INTO access_keys (access_key, user_id, secret_encrypted, enabled, created_at) "
            "VALUES ('BK', 'u', 'nonsense', 1, '2026-01-01 00:00:00')"
        )
    connection.close()

    assert run(broken, "serve", "--check") == 0

    assert (
        f'warning: the key file "{broken.data}/secret.key" does not decrypt 1 of 2 access keys that were tried'
        in capfd.readouterr().out
    )


def test_an_environment_variable_with_a_wrong_name_is_a_warning(broken: Site, capfd: pytest.CaptureFixture[str]):
    broken.environment |= {"TAGFERRY_LOGLEVEL": "debug", "TAGFERRY_PORT": "tcp://10.0.0.1:80"}

    assert run(broken, "serve", "--check") == 0

    warnings = [line for line in capfd.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        "warning: the environment variable TAGFERRY_LOGLEVEL sets nothing; did you mean TAGFERRY_LOG_LEVEL?"
    ]


def test_a_lost_key_file_is_not_replaced_and_keys_can_still_be_deleted(broken: Site, capfd: pytest.CaptureFixture[str]):
    broken.with_key()

    assert run(broken, "key", "create", "carol") == 1
    assert "does not exist, and the access keys in the database are encrypted with it" in capfd.readouterr().err
    assert run(broken, "key", "list", "carol") == 0
    assert not (broken.data / "secret.key").exists()
    assert run(broken, "key", "delete", "AK") == 0
    assert run(broken, "key", "create", "carol") == 0
    assert (broken.data / "secret.key").exists()


def test_a_server_in_an_empty_directory_makes_a_site_and_keeps_its_secrets_from_the_log(broken: Site):
    (broken.folder / "tagferry.toml").unlink()
    broken.arguments = ()
    port = {"TAGFERRY_REGIONS__CN-NORTH-4__LISTEN": f"127.0.0.1:{broken.port}"}
    with serving(broken.folder, f"http://127.0.0.1:{broken.port}", port) as served:
        log = served.log.read_text()
    secrets = broken.data / "first-admin.txt"
    assert str(secrets) in log
    assert secrets.stat().st_mode & 0o777 == 0o600
    for line in secrets.read_text().splitlines()[1:]:
        assert line.split()[-1] not in log


def test_a_server_tells_systemd_when_it_serves_and_when_it_stops(broken: Site):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(broken.folder / "notify"))
        systemd.settimeout(60)
        command = [str(PROGRAM), "serve", "--config", "tagferry.toml"]
        environment = clean_environment({"NOTIFY_SOCKET": str(broken.folder / "notify")})
        with subprocess.Popen(command, cwd=broken.folder, env=environment, stderr=subprocess.DEVNULL) as server:
            assert systemd.recv(100) == b"READY=1"
            socket.create_connection(("127.0.0.1", broken.port), timeout=10).close()
            server.send_signal(signal.SIGTERM)
            assert systemd.recv(100) == b"STOPPING=1"
            assert server.wait(60) == 0


def test_a_check_beside_the_running_server_says_so(broken: Site):
    with serving(broken.folder, f"http://127.0.0.1:{broken.port}") as served:
        done = tagferry(broken.folder, "serve", "--check")
        other = tagferry(broken.folder, "serve")
    address = f'region north: listen "127.0.0.1:{broken.port}"'
    assert f"note: {address} is in use by the running server, process {served.process.pid}\n" in done.stdout
    assert done.returncode == 0
    assert f"error: {address} is in use by process {served.process.pid} (tagferry); " in other.stderr
    assert other.returncode == 1
