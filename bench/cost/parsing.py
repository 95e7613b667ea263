"""Print the CPU seconds of one `Manifest.parse`, for an image of ten layers and for an index of eight images.

python -m bench.cost.parsing
"""

import json
import time
from typing import Any

from tagferry.oci.model import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Manifest

_TIMES = 2000


def main() -> None:
    """Parse both many times."""
    print(_seconds(_image(), OCI_MANIFEST), _seconds(_index(), OCI_INDEX))


def _seconds(document: dict[str, Any], media_type: str) -> float:
    raw = json.dumps(document).encode()
    begun = time.process_time()
    for _ in range(_TIMES):
        manifest = Manifest.parse(raw, media_type)
        _ = manifest.blobs, manifest.children, manifest.subject
    return (time.process_time() - begun) / _TIMES


def _image() -> dict[str, Any]:
    layers = [_entry("application/vnd.oci.image.layer.v1.tar+gzip", number) for number in range(10)]
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": _entry(OCI_CONFIG, 99), "layers": layers}


def _index() -> dict[str, Any]:
    platform = {"os": "linux", "architecture": "amd64"}
    manifests = [_entry(OCI_MANIFEST, number) | {"platform": platform} for number in range(8)]
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}


def _entry(media_type: str, number: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{number:064x}", "size": 1000 + number}


if __name__ == "__main__":
    main()
