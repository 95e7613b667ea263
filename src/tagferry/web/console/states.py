"""The states that pages show, each with a word, a color and a shape (an icon), so that none depends on color alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from tagferry.web.console.translation import translatable


@dataclass(frozen=True, slots=True)
class State:
    """How a state is shown.

    Attributes:
        tone: `neutral`, `info`, `good`, `warning` or `bad`; the color, in `static/console.css`.
        icon: the name of an icon in `icons.txt`.
        advice: what to do about it, for states that need something to be done.
    """

    word: str
    tone: str
    icon: str
    advice: str = ""


JOB_STATES: Mapping[str, State] = {
    "waiting": State(translatable("waiting"), "neutral", "circle-dashed"),
    "running": State(translatable("running"), "info", "loader"),
    "success": State(translatable("success"), "good", "circle-check"),
    "failed": State(translatable("failed"), "bad", "circle-x"),
    "timeout": State(translatable("timed out"), "bad", "clock-alert"),
    "cancel": State(translatable("cancelled"), "neutral", "ban"),
    "existed": State(translatable("conflict"), "warning", "triangle-alert"),
}
"""The states of jobs by `tagferry.sync.jobs.model.JobStatus`."""

JOB_REASONS = (
    translatable("copied and verified"),
    translatable("the request's deadline passed"),
    translatable("the tag does not exist in the source repository"),
    translatable("the target holds another image under this tag; send override=true to replace it"),
    translatable("timed out while queued"),
    translatable("up to date"),
)
"""The reasons of jobs that have no names or values, and so are translated (`sync/jobs/reasons.py` and others)."""

ENABLED = State(translatable("enabled"), "good", "circle-check")
DISABLED = State(translatable("disabled"), "neutral", "ban")

TAG_STATES: Mapping[str, State] = {
    "same": State(translatable("same"), "good", "circle-check"),
    "converted": State(translatable("same, converted"), "good", "git-compare-arrows"),
    "different": State(translatable("different"), "warning", "triangle-alert"),
    "missing": State(translatable("missing"), "bad", "circle-dashed"),
    "extra": State(translatable("only here"), "info", "circle-plus"),
    "absent": State(translatable("not here"), "neutral", "circle-slash"),
    "unknown": State(translatable("unknown"), "neutral", "circle-alert"),
}
"""The states of tags at the targets of a comparison, by `tagferry.comparison.service.TagState`."""

RULE_STATES: Mapping[str, State] = {
    "paused": State(translatable("paused"), "neutral", "pause"),
    "blocked": State(translatable("blocked"), "bad", "circle-slash"),
    "behind": State(translatable("behind"), "warning", "clock-alert"),
    "in sync": State(translatable("in sync"), "good", "circle-check"),
    "idle": State(translatable("no push yet"), "neutral", "circle-dashed"),
}
"""The states of rules by `tagferry.automation.rules.state.RuleStatus`."""

HEALTH_STATES: Mapping[str, State] = {
    "ok": State(translatable("reachable"), "good", "circle-check"),
    "refused": State(
        translatable("refuses"),
        "bad",
        "lock",
        translatable("Check the credentials of the region in the configuration, and that its address is a registry."),
    ),
    "unreachable": State(
        translatable("unreachable"),
        "bad",
        "circle-x",
        translatable("Check that the registry runs, and the address, proxy and authorities in the configuration."),
    ),
    "unwritable": State(
        translatable("disk not writable"),
        "bad",
        "hard-drive",
        translatable("Pushes and synchronizations to this region fail. Free space on the disk, or repair it."),
    ),
}
"""The states of regions by `tagferry.health.model.HealthState`."""
UNKNOWN = State(translatable("not checked"), "neutral", "circle-dashed")
PAUSED = State(translatable("paused"), "warning", "pause")

AUDIT_DONE = State(translatable("done"), "good", "circle-check")
AUDIT_REFUSED = State(translatable("refused"), "warning", "ban")
AUDIT_FAILED = State(translatable("failed"), "bad", "circle-x")

PROCESS_STATES: Mapping[str, State] = {
    "running": State(translatable("active"), "good", "circle-check"),
    "lost": State(translatable("lost"), "bad", "circle-x"),
    "leader": State(translatable("leader"), "info", "zap"),
}

SHARE_VALID = State(translatable("shared"), "good", "circle-check")
SHARE_ENDED = State(translatable("ended"), "neutral", "clock-fading")

DELIVERY_STATES: Mapping[str, State] = {
    "waiting": State(translatable("waiting"), "neutral", "circle-dashed"),
    "success": State(translatable("delivered"), "good", "circle-check"),
    "failed": State(translatable("failed"), "bad", "circle-x"),
}
"""The states of webhook deliveries by `tagferry.automation.triggers.status.DeliveryStatus`."""
