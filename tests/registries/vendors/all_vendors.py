"""All vendors, in the order of the table."""

from tests.registries.vendor import Vendor
from tests.registries.vendors.acr import ACR
from tests.registries.vendors.artifactory import ARTIFACTORY
from tests.registries.vendors.docker_hub import DOCKER_HUB
from tests.registries.vendors.ecr import ECR
from tests.registries.vendors.gar import GAR
from tests.registries.vendors.ghcr import GHCR
from tests.registries.vendors.gitlab import GITLAB
from tests.registries.vendors.harbor import HARBOR, HARBOR_PROXY
from tests.registries.vendors.nexus import NEXUS, NEXUS_TOKENS
from tests.registries.vendors.quay import QUAY
from tests.registries.vendors.registry_k8s import REGISTRY_K8S
from tests.registries.vendors.swr import SWR

VENDORS: tuple[Vendor, ...] = (
    GHCR,
    QUAY,
    ECR,
    ACR,
    GAR,
    GITLAB,
    HARBOR,
    HARBOR_PROXY,
    ARTIFACTORY,
    NEXUS,
    NEXUS_TOKENS,
    DOCKER_HUB,
    REGISTRY_K8S,
    SWR,
)
