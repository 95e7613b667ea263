"""Answer requests to a registry with random faults, and record which job met which."""

import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from tests.faults.registries.faults import AWAY, FAULTS, LOOP, Fault
from tests.registries.contents import Ask
from tests.registries.server import Behavior, Registry
from tests.support.scripted_registry import Reply

EVERYWHERE = "*"
"""The repository of requests that name none."""

_RECENT = 100
_CYCLE_SECONDS = 60.0
_AWAY_FROM = {"source": 20.0, "target": 45.0}
"""The time in each cycle at which a registry becomes unavailable."""


@dataclass
class Storm:
    """Random faults.

    The fault that a request meets depends on the seed, the request and the number of equal requests before it, not
    on the order in which different requests arrive. In each minute each registry is unavailable for a while.

    Attributes:
        seed: makes the choice.
        rate: the share of requests that meet a fault.
        away_seconds: how long a registry is unavailable each time.
        is_on: whether there are faults at all.
        counts: the number of requests that met each fault.
        met: the faults that the requests for a repository met, in order.
        requests: all requests, with and without a fault.
    """

    seed: int
    rate: float
    away_seconds: float = 0.0
    is_on: bool = True
    counts: Counter[str] = field(default_factory=Counter)
    met: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    requests: int = 0
    _asked: Counter[str] = field(default_factory=Counter)
    _pending: dict[int, Fault] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    def over(self, side: str) -> Behavior:
        """Return the storm as a behavior of the registry on this side, `source` or `target`."""

        def instead(registry: Registry, ask: Ask) -> Reply | None:
            if ask.repository == "loop":
                return LOOP
            fault = self._choose(side, ask)
            if fault is None:
                return None
            if fault.instead is None:
                self._pending[id(ask)] = fault
                return None
            self._note(side, ask, fault)
            return fault.instead(registry, ask)

        def afterwards(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
            fault = self._pending.pop(id(ask), None)
            if fault is None or fault.afterwards is None:
                return None
            changed = fault.afterwards(registry, ask, reply)
            if changed is not None:
                self._note(side, ask, fault)
            return changed

        text = "Answers requests with faults at random."
        return Behavior(name="storm", effect=text, source="", instead=instead, afterwards=afterwards, before_login=True)

    def causes(self, *repositories: str) -> list[Fault]:
        """Return the faults of requests for these repositories, and of requests that name none."""
        return [fault for name in (*repositories, EVERYWHERE) for fault in self.met.get(name, ())]

    def forget(self, *repositories: str) -> None:
        """Forget repositories that are no longer needed."""
        for name in repositories:
            self.met.pop(name, None)

    def _choose(self, side: str, ask: Ask) -> Fault | None:
        self.requests += 1
        if not self.is_on:
            return None
        since = (time.monotonic() - self._began) % _CYCLE_SECONDS - _AWAY_FROM[side]
        if 0 <= since < self.away_seconds:
            return AWAY
        asked = f"{side} {ask.method} {ask.repository} {ask.kind}"
        if ask.kind != "blobs/uploads":
            asked += f" {ask.reference}"
        self._asked[asked] += 1
        rng = random.Random(f"{self.seed} {asked} {self._asked[asked]}")
        if rng.random() >= self.rate:
            return None
        possible = [fault for fault in FAULTS if fault.at in ("", side) and fault.hits(ask)]
        return rng.choices(possible, [fault.weight for fault in possible])[0]

    def _note(self, side: str, ask: Ask, fault: Fault) -> None:
        self.counts[fault.name] += 1
        for repository in [EVERYWHERE] if fault.everywhere else _repositories(ask):
            self.met[repository if repository == EVERYWHERE else f"{side} {repository}"].append(fault)
        # Old faults of all repositories no longer explain anything.
        del self.met[EVERYWHERE][:-_RECENT]


def _repositories(ask: Ask) -> list[str]:
    if ask.repository:
        return [ask.repository]
    form = parse_qs(ask.body.decode(errors="replace") if ask.method == "POST" else ask.query)
    scopes = " ".join(form.get("scope", [])).split()
    return [scope.split(":")[1] for scope in scopes if scope.count(":") >= 2] or [EVERYWHERE]
