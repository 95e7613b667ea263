"""The sample programs beside this file, one for each SDK language, and the commands to build and run them."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import NoEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore

from tests.support.programs import require_program

BUILD_SECONDS = 600
RUN_SECONDS = 60
_RETRY_PAUSE_SECONDS = 10
_SOURCES = Path(__file__).parent
_BUILD = _SOURCES.parent.parent / "build" / "sdk"


@dataclass(frozen=True)
class Sample:
    """A program that is the same in each language.

    Attributes:
        needs: the programs that build and run it.
        build: the command that builds it in its folder below `build`, run in `source`.
        run: the command that runs it, without its arguments.
        trusting: the environment in which its SDK trusts the certificate in a file.
        lacks: responses for which this language's SDK has no operation, and fields that it does not read.
    """

    language: str
    needs: Sequence[str]
    build: Sequence[str]
    run: Sequence[str]
    trusting: Callable[[Path], Mapping[str, str]]
    lacks: frozenset[str] = frozenset()

    @property
    def source(self) -> Path:
        return _SOURCES / self.language

    def prepare(self) -> None:
        """Build the program, or skip the test if this machine lacks the tools."""
        for program in self.needs:
            require_program(program)
        if self.language == "node":
            shutil.copytree(self.source, _BUILD / "node", dirs_exist_ok=True)
        # The packages are downloaded, so a first failure may be the network's.
        for pause in (_RETRY_PAUSE_SECONDS, 0):
            built = _run(self.build, folder=self.source, seconds=BUILD_SECONDS / 2)
            if built.returncode == 0:
                return
            time.sleep(pause)
        pytest.fail(f"{self.build} ended with {built.returncode}: {built.stdout}{built.stderr}")

    def read(self, *arguments: str, environment: Mapping[str, str]) -> dict[str, Any]:
        """Run it, and return the document that it prints last; Node's SDK logs to the same output."""
        done = _run([*self.run, *arguments], folder=self.source, seconds=RUN_SECONDS, environment=environment)
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return document


def _run(
    command: Sequence[str], *, folder: Path, seconds: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLOUD_SDK_", "HUAWEICLOUD_"))}
    return subprocess.run(
        command,
        cwd=folder,
        env={**kept, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def _java_options(certificate: Path) -> dict[str, str]:
    trusted = PKCS12Certificate(x509.load_pem_x509_certificate(certificate.read_bytes()), b"loopback")
    store = certificate.with_suffix(".p12")
    store.write_bytes(serialize_java_truststore([trusted], NoEncryption()))
    return {"JAVA_TOOL_OPTIONS": f"-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStoreType=PKCS12"}


PYTHON = Sample(
    language="python",
    needs=(),
    build=(sys.executable, "-c", "import huaweicloudsdkswr"),
    run=(sys.executable, "sample.py"),
    trusting=lambda certificate: {"REQUESTS_CA_BUNDLE": str(certificate)},
)
GO = Sample(
    language="go",
    needs=("go",),
    build=("go", "build", "-buildvcs=false", "-o", str(_BUILD / "go" / "sample"), "."),
    run=(str(_BUILD / "go" / "sample"),),
    trusting=lambda certificate: {"SSL_CERT_FILE": str(certificate)},
)
JAVA = Sample(
    language="java",
    needs=("java", "javac", "mvn"),
    build=("mvn", "--quiet", "--batch-mode", "--strict-checksums", "package"),
    run=("java", "-cp", f"{_BUILD / 'java' / 'sample.jar'}:{_BUILD / 'java' / 'lib'}/*", "Sample"),
    trusting=_java_options,
    lacks=frozenset({"regions", "tag", "login.X-Swr-Expireat"}),
)
NODE = Sample(
    language="node",
    needs=("node", "npm"),
    build=("npm", "ci", "--prefix", str(_BUILD / "node"), "--ignore-scripts", "--no-audit", "--no-fund"),
    run=("node", str(_BUILD / "node" / "sample.js")),
    trusting=lambda certificate: {"NODE_EXTRA_CA_CERTS": str(certificate)},
    lacks=frozenset({"regions", "tag", "login.X-Swr-Expireat"}),
)
SAMPLES = (PYTHON, GO, JAVA, NODE)
