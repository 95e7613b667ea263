"""All metrics of a process, for Prometheus: their names, labels and meanings.

`docs/metrics.md` is generated from here: `python -m tests.metrics_page`. Each is counted where its event happens. No
label has a tag, a digest, a user or free text as its value, so that the number of series is bounded.
"""

from tagferry.metrics.instruments import OTHER, Counter, Gauge, Histogram, Label, Scope

REPOSITORIES = 500
"""The number of repositories that have a label of their own with `metrics_by_repository`."""
RULES = 200
"""The number of rules that have a label of their own, those with the lowest ids."""
ROUTE_UNKNOWN = "unknown"
"""The route of requests that are refused before they are routed, and of those to paths that do not exist."""

_STATUS_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_JOB_BOUNDS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)
_REGISTRY_BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
_HTTP_BOUNDS = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 10, 60)
_DATABASE_BOUNDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10)

_REGION = Label("region", "the id of a configured region")
_SOURCE_REGION = Label("source_region", "the id of the region from which tags are copied")
_TARGET_REGION = Label("target_region", "the id of the region to which tags are copied")
_RULE = Label("rule", f"the number of a rule, as the console and the API show it; `{OTHER}` above {RULES}", limit=RULES)
_METHOD = Label("method", "the HTTP method", values=(*_METHODS, OTHER))
_STATUS_CLASS = Label("status", "the class of the HTTP status", values=_STATUS_CLASSES)
_END_STATUS = Label(
    "status", "how the jobs ended, as in the API", values=("success", "failed", "timeout", "cancel", "existed")
)
_END_REASON = Label(
    "reason",
    "why the jobs ended so",
    values=(
        "none",
        "conflict",
        "not_found",
        "denied",
        "invalid",
        "corrupt",
        "unsupported",
        "unavailable",
        "unresponsive",
        "untrusted",
        "storage",
        "deadline",
        "cancelled",
        "not_configured",
        "worker_lost",
        "record",
        "internal",
    ),
)
_OPEN_STATE = Label(
    "state", "`held`: waiting for the next attempt, because a registry was unavailable", ("waiting", "running", "held")
)
_DIRECTION = Label("direction", "`read`: from the region; `written`: to the region", values=("read", "written"))
_BOUND = Label("bound", "the name of the limit, as in [limits](limits.md)")
_TASK = Label("task", "the name of the task, as in `/readyz`")
_CONNECTION_STATE = Label("state", "", values=("in_use", "idle"))

# Synchronization

JOBS = Gauge("tagferry_jobs", "Jobs that have not ended.", _OPEN_STATE, _TARGET_REGION, scope=Scope.LEADER)
OLDEST_WAITING_JOB = Gauge(
    "tagferry_oldest_waiting_job_seconds",
    "The age of the oldest job that waits to be run, or for its next attempt; 0 if none does.",
    _TARGET_REGION,
    scope=Scope.LEADER,
)
JOBS_ENDED = Counter(
    "tagferry_jobs_ended",
    "Jobs that ended, counted by the process that ended them.",
    _SOURCE_REGION,
    _TARGET_REGION,
    _END_STATUS,
    _END_REASON,
)
REPOSITORY_JOBS_ENDED = Counter(
    "tagferry_repository_jobs_ended",
    "Jobs that ended, by repository. Only with `metrics_by_repository = true`.",
    Label(
        "repository",
        f"the source's `organization/repository`; `{OTHER}` for those after the first {REPOSITORIES}",
        limit=REPOSITORIES,
    ),
    _TARGET_REGION,
    _END_STATUS,
)
REPOSITORY_JOBS_ENDED.is_enabled = False
JOB_SECONDS = Histogram(
    "tagferry_job_duration_seconds",
    "The time from the last start of a job to its end.",
    _TARGET_REGION,
    _END_STATUS,
    bounds=_JOB_BOUNDS,
)
JOB_QUEUE_SECONDS = Histogram(
    "tagferry_job_queue_seconds",
    "The time from the acceptance of a job to its first start.",
    _TARGET_REGION,
    bounds=_JOB_BOUNDS,
)
BYTES = Counter("tagferry_bytes", "Bytes of blobs that copies read from a region or wrote to it.", _REGION, _DIRECTION)
BLOBS = Counter(
    "tagferry_blobs",
    "Blobs of copied tags, by how the target region obtained them.",
    _TARGET_REGION,
    Label(
        "outcome",
        "`copied`: sent as a whole; `resumed`: sent from where an earlier attempt had stopped; `mounted`: from another "
        "repository; `present`: it had them",
        values=("copied", "mounted", "present", "resumed"),
    ),
)
RULES_STATE = Gauge("tagferry_rules", "Rules.", Label("state", "", values=("enabled", "paused")), scope=Scope.LEADER)
RULE_JOBS = Gauge("tagferry_rule_jobs", "Jobs of a rule that have not ended.", _RULE, _OPEN_STATE, scope=Scope.LEADER)
RULE_LAST_SUCCESS = Gauge(
    "tagferry_rule_last_success_timestamp_seconds",
    "When a job of a rule last succeeded, as Unix time; absent if none of the repository's last 100 successes was.",
    _RULE,
    scope=Scope.LEADER,
)

# Registries

REGISTRY_REQUESTS = Counter(
    "tagferry_registry_requests",
    "Requests to a region's registry, its token server and its storage.",
    _REGION,
    _METHOD,
    Label("status", "the class of the HTTP status; `error` without a response", values=(*_STATUS_CLASSES, "error")),
)
REGISTRY_SECONDS = Histogram(
    "tagferry_registry_request_seconds",
    "The time from the start of a request to a region's registry to the head of the response.",
    _REGION,
    _METHOD,
    bounds=_REGISTRY_BOUNDS,
)
REGISTRY_THROTTLED = Counter(
    "tagferry_registry_throttled_seconds",
    "Seconds for which a region's registry asked to send nothing, and for which requests waited for its rate limit.",
    _REGION,
)
REGISTRY_RETRIES = Counter(
    "tagferry_registry_retries",
    "Requests to a region's registry that were repeated.",
    _REGION,
    Label(
        "reason",
        "`throttled`: the registry asked to wait; `timeout`: it did not answer; `unavailable`: it could not be "
        "reached, or answered with an error",
        values=("throttled", "timeout", "unavailable"),
    ),
)
REGISTRY_CONNECTIONS = Gauge(
    "tagferry_registry_connections",
    "Open connections to a region's registry, its token server and its storage.",
    _REGION,
    _CONNECTION_STATE,
)
REGION_UP = Gauge(
    "tagferry_region_up",
    "1 if the last check of a region's registry succeeded, 0 if it failed.",
    _REGION,
    scope=Scope.CHECKER,
)
REGION_LATENCY = Gauge(
    "tagferry_region_latency_seconds",
    "Seconds to the first byte of the last response of a region's registry.",
    _REGION,
    scope=Scope.CHECKER,
)
REGION_CERTIFICATE_EXPIRY = Gauge(
    "tagferry_region_certificate_expiry_timestamp_seconds",
    "When the TLS certificate of a region's registry expires, as Unix time.",
    _REGION,
    scope=Scope.CHECKER,
)
REGION_CLOCK_DIFFERENCE = Gauge(
    "tagferry_region_clock_difference_seconds",
    "How far the clock of a region's registry is ahead of this machine's, to a second; negative if it is behind.",
    _REGION,
    scope=Scope.CHECKER,
)
REGIONS_PAUSED = Gauge(
    "tagferry_region_paused",
    "1 while this process has paused the synchronizations of a region that does not answer.",
    _REGION,
)
REGION_CAPABILITIES_KNOWN = Gauge(
    "tagferry_region_capabilities_known",
    "1 if this process knows what a region's registry supports, 0 until it has learned or loaded it.",
    _REGION,
)

# Workers

WORKERS = Gauge(
    "tagferry_workers",
    "Processes that run jobs.",
    Label(
        "state",
        "`missing`: not seen for 45 seconds, though it did not stop; for an hour at most",
        values=("alive", "missing"),
    ),
    scope=Scope.LEADER,
)
WORKER_SLOTS = Gauge("tagferry_worker_slots", "How many jobs this process runs at once at most.")
WORKER_SLOTS_USED = Gauge("tagferry_worker_slots_used", "How many jobs this process runs.")
LEADER = Gauge("tagferry_leader", "1 if this process is the leader, otherwise 0.")

# Automation

WEBHOOK_DELIVERIES_PENDING = Gauge(
    "tagferry_webhook_deliveries_pending",
    "Webhook deliveries that have not succeeded or failed yet.",
    scope=Scope.LEADER,
)
WEBHOOK_DELIVERIES = Counter(
    "tagferry_webhook_deliveries",
    "Attempts to deliver to a webhook.",
    Label("status", "`retried`: the attempt failed, and another one follows", values=("success", "failed", "retried")),
)
RETENTION_RUNS = Counter(
    "tagferry_retention_runs", "Runs of retention policies.", Label("status", "", values=("success", "failed"))
)

# Embedded registries

EMBEDDED_REQUESTS = Counter(
    "tagferry_embedded_requests",
    "Requests to an embedded registry of this process.",
    _REGION,
    Label(
        "operation",
        "the method and what is requested",
        values=(
            "GET base",
            "HEAD base",
            "GET manifest",
            "HEAD manifest",
            "PUT manifest",
            "DELETE manifest",
            "GET blob",
            "HEAD blob",
            "DELETE blob",
            "GET upload",
            "POST upload",
            "PATCH upload",
            "PUT upload",
            "DELETE upload",
            "GET tags",
            "GET referrers",
            "GET catalog",
            OTHER,
        ),
    ),
    _STATUS_CLASS,
)
EMBEDDED_BYTES = Counter(
    "tagferry_embedded_bytes",
    "Bytes of bodies that clients of an embedded registry read from it and wrote to it.",
    _REGION,
    _DIRECTION,
)
EMBEDDED_UPLOADS = Gauge(
    "tagferry_embedded_upload_sessions",
    "Upload sessions of an embedded registry's clients that have not ended, of those used since the process started.",
    _REGION,
)
REGION_DISK_FREE = Gauge(
    "tagferry_region_disk_free_bytes",
    "Free bytes on the disk of an embedded registry.",
    _REGION,
    scope=Scope.CHECKER,
)
REGION_DISK_USED = Gauge(
    "tagferry_region_disk_used_bytes",
    "Bytes of the disk of an embedded registry that cannot be written, whatever occupies them.",
    _REGION,
    scope=Scope.CHECKER,
)
GARBAGE_BYTES = Counter(
    "tagferry_garbage_collected_bytes", "Bytes that garbage collection freed in an embedded registry.", _REGION
)
GARBAGE_BLOBS = Counter(
    "tagferry_garbage_collected_blobs", "Blobs that garbage collection deleted from an embedded registry.", _REGION
)
DAMAGED_CONTENT = Counter(
    "tagferry_damaged_content",
    "Damaged content found in embedded registries.",
    Label("kind", "the kind of content", values=("blob", "manifest", "tag", "referrer")),
)

# API and console

HTTP_REQUESTS = Counter(
    "tagferry_http_requests",
    "Requests to the management API, IAM, the console, the token service and the probes, without those refused for "
    "overload.",
    Label(
        "route",
        f"the template of the path; `{ROUTE_UNKNOWN}` for requests refused before they were routed, and other paths",
    ),
    _METHOD,
    _STATUS_CLASS,
)
HTTP_SECONDS = Histogram(
    "tagferry_http_request_seconds",
    "The time from the head of a request to the head of its response.",
    HTTP_REQUESTS.label_set[0],
    _METHOD,
    bounds=_HTTP_BOUNDS,
)
LOGIN_FAILURES = Counter(
    "tagferry_login_failures", "Failed authentications by a password, an access key or a signature."
)
LOCKOUTS = Counter(
    "tagferry_lockouts", "Names and access keys that were locked for an address after too many failed authentications."
)
AUDIT_RECORDS_LOST = Counter(
    "tagferry_audit_records_lost",
    "Audit records that were not written to the database. The audit log has them.",
    Label("reason", "one of two sentences: too many records waited, or the process ended before they were written"),
)

# The process

BOUND_REACHED = Counter(
    "tagferry_bound_reached",
    "Requests, connections and content refused or ended because a limit was reached.",
    _BOUND,
)
RECORDS_REFUSED = Counter(
    "tagferry_records_refused",
    "Records that the database rejected or that could not be read, and that were skipped or marked as failed.",
    Label("kind", "the kind of record"),
)
DATABASE_SECONDS = Histogram(
    "tagferry_database_query_seconds",
    "The time of statements in the database, as this process waits for them.",
    bounds=_DATABASE_BOUNDS,
)
DATABASE_UP = Gauge(
    "tagferry_database_up", "1 if this process could last record itself in the database, as it does every 10 seconds."
)
DATABASE_CONNECTIONS = Gauge(
    "tagferry_database_connections",
    "Connections in the pool of this process; those for messages and locks are not among them.",
    _CONNECTION_STATE,
)
EVENT_LOOP_LAG = Gauge(
    "tagferry_event_loop_lag_seconds",
    "The longest delay of the event loop within the last 15 seconds: by so much everything in the process was late.",
)
TASK_FAILURES = Counter(
    "tagferry_background_task_failures", "Failures of a background task, after each of which it is restarted.", _TASK
)
TASK_RUNNING = Gauge(
    "tagferry_background_task_running",
    "1 while a background task runs, 0 while it waits for its restart.",
    _TASK,
)
BUILD_INFO = Gauge(
    "tagferry_build_info",
    "Always 1.",
    Label("version", "the version of tagferry"),
    Label("python", "the version of Python"),
)

METRICS: tuple[Counter | Gauge | Histogram, ...] = tuple(
    found for found in list(globals().values()) if isinstance(found, Counter | Gauge | Histogram)
)
"""All metrics, in the order of the documentation."""
