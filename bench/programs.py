"""The programs that the benchmark builds from Go modules, which `go/go.mod` pins."""

import subprocess
from functools import cache
from pathlib import Path

ORAS_MODULE = "oras.land/oras"
SKOPEO_MODULE = "go.podman.io/image/v5"
"""The module of which skopeo consists. The Go module proxy does not serve skopeo itself."""
_MODULE = Path(__file__).with_name("go")
_BUILD = Path(__file__).parent.parent / "build" / "bench"
_PACKAGES = ("./skopeo", f"{ORAS_MODULE}/cmd/oras")
_TAGS = "containers_image_openpgp"
"""Without it, the build needs the headers of GPGME, for signatures that a copy does not verify."""
_BUILD_SECONDS = 900


@cache
def built(name: str) -> str:
    """Return the path of a program: `skopeo`, with a main of this benchmark, or `oras`."""
    _BUILD.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-buildvcs=false", "-tags", _TAGS, "-o", f"{_BUILD}/", *_PACKAGES]
    subprocess.run(command, cwd=_MODULE, stdin=subprocess.DEVNULL, check=True, timeout=_BUILD_SECONDS)
    return str(_BUILD / name)


def version_of(module: str, folder: Path = _MODULE) -> str:
    """Return the version of a module that the `go.mod` of a folder selects."""
    command = ["go", "list", "-m", "-f", "{{.Version}}", module]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    return answer.stdout.strip()
