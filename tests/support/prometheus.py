"""A real Prometheus, from Debian's package, that scrapes processes of a test. It is no service of the system."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes import free_port, stop, wait_until_it_listens
from tests.support.programs import require_program

_START_SECONDS = 60.0
_CONFIGURATION = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: {rules}
scrape_configs:
  - job_name: tagferry
    authorization: {{credentials: {token}}}
    static_configs: [{{targets: {targets}}}]
"""


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def query(self, expression: str) -> dict[tuple[str, ...], float]:
        """Return the values of an expression now, by the values of their labels in the order of the labels' names."""
        found = self._get(f"query?{urllib.parse.urlencode({'query': expression})}")["result"]
        return {tuple(one["metric"][name] for name in sorted(one["metric"])): float(one["value"][1]) for one in found}

    def value(self, expression: str) -> float | None:
        """Return the value of an expression without labels; None if there is none."""
        return self.query(expression).get(())

    def firing(self, alert: str) -> list[dict[str, str]]:
        """Return the labels of the alerts of this name that fire now."""
        found = self._get("alerts")["alerts"]
        return [one["labels"] for one in found if one["labels"]["alertname"] == alert and one["state"] == "firing"]

    def errors(self) -> list[str]:
        """Return why scrapes failed last."""
        targets = self._get("targets")["activeTargets"]
        return [target["lastError"] for target in targets if target["lastError"]]

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=10) as response:
            return json.load(response)["data"]


@contextmanager
def prometheus(folder: Path, targets: Sequence[str], *, token: str, rules: Sequence[Path] = ()) -> Iterator[Prometheus]:
    """Scrape these addresses every second, with a bearer token, and evaluate these files of rules as often."""
    program, address = require_program("prometheus"), f"127.0.0.1:{free_port()}"
    configuration, log = folder / "prometheus.yml", folder / "prometheus.log"
    configuration.write_text(
        _CONFIGURATION.format(
            token=token, targets=json.dumps(list(targets)), rules=json.dumps([str(rule) for rule in rules])
        )
    )
    options = (
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={address}",
    )
    with log.open("wb") as output:
        process = subprocess.Popen([program, *options], stdout=output, stderr=subprocess.STDOUT, cwd=folder)
        try:
            wait_until_it_listens(process, address)
            _wait_until_ready(f"http://{address}", log)
            yield Prometheus(f"http://{address}")
        finally:
            stop(process)


def _wait_until_ready(url: str, log: Path) -> None:
    """Wait until its storage is open; until then it answers 503."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=10):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"Prometheus is not ready: {log.read_text()[-2000:]}")


def promtool(*arguments: str, given: str = "") -> None:
    """Run `promtool`; fails with what it finds."""
    done = subprocess.run(
        [require_program("promtool"), *arguments], input=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
