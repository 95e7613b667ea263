"""The images of one request to tagferry, which no other request has, and the target's content before it."""

import random
from collections.abc import Collection
from dataclasses import dataclass

from tagferry.names import Repository, Tag
from tests.registries.samples import Sample
from tests.support.deployment import RELEASE, TEAM
from tests.support.images import artifact, attested, image

_KIB = 1024


@dataclass
class Round:
    """One request to tagferry: its own repository with a few tags."""

    number: int
    samples: tuple[Sample, ...]
    standing: dict[Tag, Sample]
    override: bool

    @property
    def name(self) -> Repository:
        return Repository(f"r{self.number:05}")

    @property
    def at_source(self) -> str:
        return f"{TEAM}/{self.name}"

    @property
    def at_target(self) -> str:
        return f"{RELEASE}/{self.name}"

    def bytes_for(self, tags: Collection[str]) -> int:
        """Return the bytes of the blobs that had to be sent for these tags, each once."""
        held = {digest for one in self.standing.values() for digest in one.image.all_blobs}
        wanted = [one for sample in self.samples if sample.tag in tags for one in sample.everything]
        return sum(
            len(c) for d, c in {d: c for one in wanted for d, c in one.all_blobs.items()}.items() if d not in held
        )

    def expected(self, sample: Sample) -> Sample:
        """The target's content after a successful job."""
        return sample if self.override else self.standing.get(sample.tag, sample)


def new_round(number: int, seed: int) -> Round:
    """Create images that no other round has, and the target's content before."""
    rng = random.Random(f"{seed} round {number}")

    def layer(kib: int) -> bytes:
        return rng.randbytes(kib * _KIB)

    name = f"round {number}"
    shared = layer(64)
    signed, referred = image(shared, seed=f"{name} signed"), image(shared, layer(16), seed=f"{name} referred")
    candidates = [
        Sample("image", Tag("v1"), image(shared, layer(32), seed=f"{name} v1")),
        Sample("image", Tag("v2"), image(shared, layer(32), seed=f"{name} v2")),
        Sample(
            "index",
            Tag("multi"),
            attested(*(image(layer(24), seed=f"{name} {p}", platform=("linux", p)) for p in ("amd64", "arm64"))),
        ),
        Sample("large", Tag("large"), image(layer(rng.randrange(1, 6) * 1024), seed=f"{name} large")),
        Sample(
            "signed",
            Tag("signed"),
            signed,
            signatures={Tag(f"{signed.digest.replace(':', '-')}.sig"): image(seed=f"{name} signature")},
        ),
        Sample(
            "referred",
            Tag("referred"),
            referred,
            referrers=(artifact(subject=referred.manifest, payload=name.encode()),),
        ),
    ]
    samples = tuple(rng.sample(candidates, rng.randrange(1, 4)))
    standing: dict[Tag, Sample] = {}
    if rng.random() < 0.25:
        first = samples[0]
        is_same = rng.random() < 0.3
        standing[first.tag] = Sample("standing", first.tag, first.image if is_same else image(seed=f"{name} before"))
    return Round(number, samples, standing, override=rng.random() < 0.5)
