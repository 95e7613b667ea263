"""The index of a manifest's referrers in stores that do not list them.

Distribution-spec 1.1, "Referrers Tag Schema".
"""

import json
from typing import Any

from tagferry.oci.model import OCI_INDEX, Manifest


def index_with_referrer(index: Manifest | None, referrer: Manifest) -> bytes:
    """Return the bytes of the index with one more referrer; None for an index that does not exist yet."""
    document: dict[str, Any] = index.document if index else {"schemaVersion": 2, "mediaType": OCI_INDEX}
    entries = document.get("manifests") or []
    document = {**document, "manifests": [*entries, referrer.referrer_descriptor.to_json()]}
    return json.dumps(document, separators=(",", ":")).encode()
