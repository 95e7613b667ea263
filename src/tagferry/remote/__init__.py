"""Image stores over HTTP: any OCI registry."""

from tagferry.remote.capabilities import Capabilities, CapabilityKeeper, Learned
from tagferry.remote.client import RemoteStore
from tagferry.remote.endpoint import Credentials, Endpoint
from tagferry.remote.retry import Retry
from tagferry.remote.sessions import UploadKeeper

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
