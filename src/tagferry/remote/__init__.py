"""Image stores over HTTP: any OCI registry."""

from tagferry.remote.blobs.checkpoint import UploadCheckpointStore
from tagferry.remote.capabilities import Capabilities, CapabilityStore, LearnedCapabilities
from tagferry.remote.store import RemoteStore
from tagferry.remote.transport.endpoint import Credentials, Endpoint
from tagferry.remote.transport.retry import Retry

__all__ = [
    "Capabilities",
    "CapabilityStore",
    "Credentials",
    "Endpoint",
    "LearnedCapabilities",
    "RemoteStore",
    "Retry",
    "UploadCheckpointStore",
]
