"""The images that are copied from and to every vendor's registry: one of each common kind."""

import json
from dataclasses import dataclass, field

from tagferry.names import Digest, Tag
from tagferry.oci.model import OCI_INDEX, OCI_MANIFEST, Manifest
from tests.registries.contents import Repository
from tests.support.images import SampleImage, artifact, attested, blob, image, layer

_HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
_HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_BUILDKIT_CONFIG = "application/vnd.buildkit.cacheconfig.v0"


@dataclass(frozen=True)
class Sample:
    """An image under a tag, with its attached artifacts.

    Attributes:
        signatures: images under tags made from the image's digest, as cosign pushes them.
        referrers: artifacts that name the image as their subject.
    """

    name: str
    tag: Tag
    image: SampleImage
    signatures: dict[Tag, SampleImage] = field(default_factory=dict)
    referrers: tuple[SampleImage, ...] = ()

    @property
    def everything(self) -> list[SampleImage]:
        """The image and all its attached artifacts."""
        return [self.image, *self.signatures.values(), *self.referrers]

    def store(self, repository: Repository) -> None:
        """Store this in a repository, bypassing its API."""
        for one in self.everything:
            repository.blobs.update({str(digest): content for digest, content in one.all_blobs.items()})
            repository.manifests.update({manifest.digest: manifest for manifest in one.all_manifests})
        repository.tags[self.tag] = self.image.digest
        repository.tags.update({tag: signature.digest for tag, signature in self.signatures.items()})

    def store_referrers_tag(self, repository: Repository) -> None:
        """Store the index of the referrers under the fallback tag of the referrers API."""
        if not self.referrers:
            return
        listed = [one.manifest.referrer_descriptor.to_json() for one in self.referrers]
        raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode()
        index = Manifest.parse(raw, OCI_INDEX)
        repository.manifests[index.digest] = index
        repository.tags[self.image.digest.replace(":", "-")] = index.digest

    def differences(self, repository: Repository | None) -> list[str]:
        """Return the parts that a repository does not hold, bit by bit."""
        if repository is None:
            return ["the repository"]
        lacking = []
        for one in self.everything:
            for manifest in one.all_manifests:
                found = repository.manifests.get(manifest.digest)
                if found is None or found.raw != manifest.raw or found.media_type != manifest.media_type:
                    lacking.append(f"manifest {manifest.digest}")
            lacking += [
                f"blob {digest}" for digest, content in one.all_blobs.items() if repository.blobs.get(digest) != content
            ]
        tags = {self.tag: self.image, **self.signatures}
        return lacking + [f"tag {tag}" for tag, one in tags.items() if repository.tags.get(tag) != one.digest]


def samples() -> tuple[Sample, ...]:
    """One of each kind."""
    platforms = [image(seed=f"platform {name}", platform=("linux", name)) for name in ("amd64", "arm64")]
    signed, referred = image(seed="signed"), image(seed="referred")
    signature_tag = Tag(f"{signed.digest.replace(':', '-')}.sig")
    return (
        Sample("index with attestations", Tag("multi"), attested(*platforms)),
        Sample("cosign signature", Tag("signed"), signed, signatures={signature_tag: image(seed="signature")}),
        Sample(
            "referrer",
            Tag("referred"),
            referred,
            referrers=(artifact(subject=referred.manifest, payload=b"bill of materials"),),
        ),
        Sample("Helm chart", Tag("chart"), _chart()),
        Sample("BuildKit cache", Tag("cache"), _cache()),
    )


def replacement(sample: Sample) -> Sample:
    """Another image under the same tag."""
    return Sample(sample.name, sample.tag, image(seed=f"instead of {sample.tag}"))


def _chart() -> SampleImage:
    config, content = json.dumps({"name": "chart", "version": "1.0.0"}).encode(), layer("chart")
    document = {
        "schemaVersion": 2,
        "config": blob(config, media_type=_HELM_CONFIG).to_json(),
        "layers": [blob(content, media_type=_HELM_CHART).to_json()],
    }
    return _sample(document, OCI_MANIFEST, config, content)


def _cache() -> SampleImage:
    config, content = json.dumps({"layers": [{"parent": -1}]}).encode(), layer("cached layer")
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [blob(content).to_json(), blob(config, media_type=_BUILDKIT_CONFIG).to_json()],
    }
    return _sample(document, OCI_INDEX, config, content)


def _sample(document: dict[str, object], media_type: str, *blobs: bytes) -> SampleImage:
    manifest = Manifest.parse(json.dumps(document).encode(), media_type)
    return SampleImage(manifest=manifest, blobs={Digest.of(content): content for content in blobs})
