"""Image stores over HTTP: any OCI registry."""

from tagferry.remote.blobs.checkpoint import UploadKeeper
from tagferry.remote.capabilities import Capabilities, CapabilityKeeper, Learned
from tagferry.remote.store import RemoteStore
from tagferry.remote.transport.endpoint import Credentials, Endpoint
from tagferry.remote.transport.retry import Retry

__all__ = [
    "Capabilities",
    "CapabilityKeeper",
    "Credentials",
    "Endpoint",
    "Learned",
    "RemoteStore",
    "Retry",
    "UploadKeeper",
]
