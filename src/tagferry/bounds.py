"""Fixed limits on input from clients and registries: its size, count, depth and duration.

Limits that operators may want to change are settings (`[limits]`). `docs/limits.md` lists both.
"""

HEAD_BYTES = 64 * 1024
"""Bytes of a request's head, from its method to the empty line."""
HEADERS = 100
"""Headers of a request, and fields of its trailer."""
PIPELINED_REQUESTS = 8
"""Pipelined requests: those that a connection may send before the first response. Further ones are not read, and the
connection is closed after the last response."""
FRAMING_BYTES = 64 * 1024
"""Bytes of a chunked body that are not content (sizes and extensions of chunks, the trailer), in addition to an eighth
of the content."""
UNREAD_BODY_BYTES = 1024 * 1024
"""Bytes of a body that are read and dropped after the response to its request, so that the connection can be reused. If
there are more, the connection is closed."""
BODY_PIECES = 4000
"""Chunks of a body, in addition to one for every 64 bytes of content."""
LINGER_SECONDS = 5.0
"""Time for which a connection stays open after its last response, so that the client can read it."""
LINGER_BYTES = 16 * 1024 * 1024
"""Bytes that are read and dropped within that time, from clients that send their whole request before they read the
response. If there are more, the connection is reset."""
TRANSFER_RATE = 256
"""Minimum rate, in bytes per second over `stall_timeout_seconds`, at which a client must send a body or read a
response."""
ACCEPTS_AT_ONCE = 8
"""Connections that a listener accepts in one iteration of the event loop."""
DESCRIPTOR_RESERVE = 64
"""File descriptors reserved for the disk, the database and registries. Half of the others are for connections."""
ANONYMOUS_BODIES_BYTES = 64 * 1024 * 1024
"""Bytes of the bodies of all requests whose callers are not authenticated yet, to the management API and for tokens of
embedded registries. One address may use a quarter of them. Further requests get 503."""
ANONYMOUS_BODY_SECONDS = 60.0
"""Time in which such a body must arrive."""
LOOP_LAG_SECONDS = 0.1
"""Delay of the event loop above which, if it lasts for half a second, new requests get 503."""
SHED_SECONDS = 2.0
"""Time for which a connection is not read after a request on it was refused because of overload."""
SHED_PER_ADDRESS = 32
"""Requests from one address that are refused within that time because of overload or too many logins. After that, its
new connections are refused, too, until the time has passed."""
SHARES_RESERVE = 64
"""Further requests that are admitted after `concurrent_requests` is reached, and in each tenth of a second while the
event loop is late, only from addresses that have had less than an equal share."""
MANAGEMENT_RESERVE = 32
"""Further requests that are admitted if they have credentials of the management API."""
BACKGROUND_CHANGES = 256
"""Changes in a region that continue after their requests got 504 because the registry did not answer. Further changes
get 503."""
READINESS_SECONDS = 5.0
"""Time for which `/readyz` waits for the database."""
SPANS = 1000
"""Spans of a request, or of an attempt of a job, in a trace. Those of its steps are recorded nevertheless."""
TRACE_CONTEXT_CHARACTERS = 600
"""Characters of a trace's context that are recorded with a job: W3C's `traceparent` and `tracestate`."""
PROBED_LAG_SECONDS = 1.0
"""Delay of the event loop from which `/healthz` reports it."""
DISK_SCARCE_RESERVES = 5
"""`/readyz` reports a registry's disk as almost full while less than so many times its reserve is free."""

MANIFEST_BYTES = 4 * 1024 * 1024
"""Bytes of a manifest, pushed or read. The distribution-spec asks registries to accept at least this much."""
CONTENT_BYTES = 1 << 50
"""Bytes that a manifest may refer to, in one descriptor and in all of them together. No storage accepts a larger
object, and the sum over all manifests of an image fits a database's integer."""
DESCRIPTORS = 10_000
"""Layers of a manifest, or entries of an index. Container runtimes support at most 127 layers."""
DESCRIPTOR_URLS = 100
"""URLs of one descriptor."""
MEDIA_TYPE_CHARACTERS = 255
"""Characters of a media type or an artifact type (RFC 6838, section 4.2), or of a part of a platform."""
PARSED_AT_ONCE_BYTES = 64 * 1024
"""Bytes of the largest manifest that is parsed on the event loop, in about three milliseconds."""
JSON_DEPTH = 64
"""Nesting depth of objects and arrays in a JSON document."""
JSON_VALUES = 300_000
"""Values in a manifest, a configuration or a registry's answer of more than 64 KiB, counted by commas, brackets and
braces. A value can take 30 times as much memory as its bytes."""
CONFIG_BYTES = MANIFEST_BYTES
"""Bytes of an image's configuration that is read."""
IMAGE_MANIFESTS = 1000
"""Manifests that one image may refer to, at any depth."""
IMAGE_MANIFEST_BYTES = 16 * 1024 * 1024
"""Bytes of all manifests of one image, and the same again for everything attached to it. They take about five times as
much memory."""
MANIFESTS_HELD_BYTES = 64 * 1024 * 1024
"""Bytes of manifests that all copies of a process hold at once. A copy that needs more is retried later."""
GUARANTEED_MANIFEST_BYTES = 1024 * 1024
"""Bytes of manifests, of one image and of everything attached to it, that `MANIFESTS_HELD_BYTES` does not limit."""
INDEX_DEPTH = 8
"""Nesting depth of indexes."""
LIST_REQUEST_TAGS = 100_000
"""Tags that one request for a list inspects, over all repositories. Further repositories are listed without size and
dates."""
LIST_REQUEST_MANIFESTS = 5000
"""Manifests that one request for a list reads. Cached ones do not count."""
LIST_REQUEST_BYTES = 64 * 1024 * 1024
"""Bytes of manifests and configurations that one request for a list reads."""
LISTED_IMAGE_DESCRIPTORS = 20_000
"""Layers and children of one image that count toward the size in lists."""
LISTED_MEMORY_BYTES = 64 * 1024 * 1024
"""Bytes of memory, about, for the facts of images and repositories that were listed, so that lists need not read them
again."""
ANSWER_MEMORY_BYTES = 16 * 1024 * 1024
"""Bytes of memory, about, for lists of tags as they were sent, so that an unchanged list need not be built again."""
REMEMBERED_ANSWER_BYTES = 2 * 1024 * 1024
"""Bytes of the longest list of tags that is remembered as it was sent."""
LISTED_TEXT_BYTES = 8 * 1024 * 1024
"""Bytes of manifests in one list of tags. Further tags are listed without their manifest."""
COMPARED_REPOSITORIES = 32
"""Targets in a comparison of a repository with its copies. Further ones are counted."""
COMPARED_DIGESTS = 4000
"""Requests for digests to remote registries that one page of such a comparison makes. Then the page ends early."""
LOCATED_REPOSITORIES = 1000
"""Repositories of an embedded region in which a search for a digest looks; of a region with a remote registry, a
twentieth of these. The answer says if others were not asked."""
NESTED_INDEX_BYTES = 16 * 1024 * 1024
"""Bytes of all indexes below an index that is pushed to an embedded registry, at any depth."""
OPEN_UPLOADS = 4096
"""Upload sessions of an embedded registry that are kept in memory. Others are read from their files to continue."""
UPLOAD_WAIT_SECONDS = 75.0
"""Time for which a request waits for another that writes to the same upload."""
LISTED_NAMES = 10_000
"""Tags or repositories on one page of an embedded registry's lists, which link to the next page."""
REMEMBERED_TAGS = 200_000
"""Tags that an embedded registry caches, so that each page need not read the directory again."""
KEPT_MANIFEST_BYTES = 16 * 1024 * 1024
"""Bytes of manifests that an embedded registry keeps in memory, to serve them again without the disk."""
REMEMBERED_TAG_BYTES = 64 * 1024 * 1024
"""Bytes of memory, about, for the tags of an embedded registry with their digests and dates, so that lists need not
read each file again."""
REMEMBERED_DIRECTORIES = 200_000
"""Directories of an embedded registry that may contain repositories. If there are more, each list of repositories reads
all of them again."""
REFERRER_PAGE_BYTES = 4 * 1024 * 1024
"""Bytes after which an embedded registry ends a page of referrers and links to the next page."""
REFERRERS_READ_BYTES = 32 * 1024 * 1024
"""Bytes of one manifest's referrers that are read at once from an embedded registry's disk."""
REFERRERS = 1000
"""Referrers of one manifest that are copied. Further ones are omitted and named in the job's reason."""
ATTACHED_ARTIFACTS = 5000
"""Attached artifacts of one image that are copied, including those attached to attached artifacts."""

AUTHORIZATION_BYTES = 16 * 1024
"""Bytes of the Authorization header of a signed request."""
SIGNED_HEADERS = 100
"""Names in `SignedHeaders`, which must be unique."""
PATH_BYTES = 8 * 1024
"""Bytes of the path of a request, still percent-encoded."""
QUERY_PARAMETERS = 200
"""Parameters in the query of a request, or in a form that requests a token of an embedded registry."""
FORM_FIELDS = 1000
"""Fields of a form of the console."""
PASSWORD_CHARACTERS = 4096
"""Characters of a password."""
IAM_TOKEN_CHARACTERS = 255
"""Characters of an IAM token. Valid tokens have 64."""
SEALED_BYTES = 16 * 1024
"""Bytes of a login secret, a security token or a token of an embedded registry."""
BODY_STRUCTURAL_CHARACTERS = 50_000
"""Brackets, braces, commas and quotation marks in the JSON body of a request to the management API."""
UNKNOWN_FIELDS_REPORTED = 10
"""Unknown fields of the body of one request that are named, with at most 64 characters each."""
ERRORS_REPORTED = 20
"""Errors of one request that its response lists."""

PASSWORDS_WAITING = 128
"""Logins, from all addresses, that may wait for their password to be verified."""
PASSWORDS_WAITING_OF_ADDRESS = 16
"""Such logins from one address, or one IPv6 /64 network."""
LOCKED_NAMES = 20
"""Names or access keys whose failed authentications are counted for one address."""
LOCKOUT_ADDRESSES = 10_000
"""Addresses for which failed authentications are counted."""
LOGIN_RESULTS_UNSENT = 1000
"""Failed logins that wait to be reported to the other processes of the database; the oldest are dropped."""
REMEMBERED_RESULTS = 10_000
"""Results that are remembered of each query that authenticates or authorizes requests."""
REMEMBERED_NAMES = 100_000
"""Names of organizations, and of repositories, that are remembered as readable by users, in the lists of all users; and
those of recorded repositories that are remembered for lists."""
REMEMBERED_SEALS = 1000
"""Registry tokens, login secrets and security tokens that are remembered as authentic."""
AUDITED_PATH_CHARACTERS = 1000
"""Characters of a request's path in its line of the audit log, and in its audit record."""
AUDITED_ANONYMOUS_ADDRESSES = 30
"""Addresses with a status whose anonymous requests are counted one by one in the audit records of a process and minute.
The anonymous requests of further ones are counted together."""
AUDIT_RECORDS_UNWRITTEN = 10_000
"""Audit records of a process that wait for the database. Further ones are lost; the audit log has them."""
FORWARDED_HOPS = 16
"""Addresses in `X-Forwarded-For` that are read, from the right."""
SIGNATURES_OF_USER = 100_000
"""Signed requests for changes that one user may send within 15 minutes, while their signatures are remembered."""

RESPONSE_HEAD_BYTES = 64 * 1024
"""Bytes of a registry's response before its body, and between two chunks of the body."""
LARGE_RESPONSE_BYTES = 256 * 1024
"""Bytes from which a registry's response counts as large."""
LARGE_RESPONSES = 4
"""Large responses of one registry that are held until they are parsed. Further ones wait."""
CONCURRENT_LISTS = 4
"""Lists of tags or repositories of one registry that are read at once. Further ones wait."""
TOKEN_RESPONSE_BYTES = 256 * 1024
"""Bytes of a token server's response."""
REGISTRY_TOKEN_CHARACTERS = 32 * 1024
"""Characters of a token from a token server. Hardly any registry accepts a header as long as this."""
URL_CHARACTERS = 16 * 1024
"""Characters of a URL from a registry, such as a signed one of its storage."""
PROGRESS_BYTES = 64 * 1024
"""Bytes that an attempt of a transfer must move to reset the count of failures."""
ERROR_BODY_BYTES = 16 * 1024
"""Bytes of a registry's error response that are read."""
TAG_LIST_BYTES = 16 * 1024 * 1024
"""Bytes of a registry's list of tags or repositories, over all of its pages."""
TAG_LIST_NAMES = 200_000
"""Names in such a list."""
TAG_LIST_PAGES = 10_000
"""Pages of such a list that are followed."""
REFERRER_LIST_BYTES = 8 * 1024 * 1024
"""Bytes of a registry's list of referrers, over all of its pages."""
LISTED_REFERRERS = 10_000
"""Entries of such a list."""
REFERRER_PAGES = 100
"""Pages of such a list that are followed."""

RECORDED_TEXT = 4000
"""Characters of a text with quotations, such as the reason of a job, that the database keeps."""
JOB_LOST_WORKERS = 5
"""Lost workers after which the job that they were running fails."""
TIMELINE_BLOBS = 100
"""Blobs of one attempt of a job whose transfer is recorded in its timeline; further ones are only counted."""
TIMELINE_ATTEMPTS = 20
"""Attempts of a job that its timeline has: the first one and the last ones."""
CONSOLE_STREAMS = 512
"""Open pages of the console that get changes of jobs, in a process. Others show changes when they are reloaded."""
CONSOLE_STREAMS_OF_USER = 32
"""Such pages of one user."""
TRIGGER_TEST_SECONDS = 10.0
"""Seconds between two tests of one trigger; an earlier one is answered 429."""
JOBS_SELECTED = 200
"""Jobs of several repositories that one request cancels or retries, and whose changes one page of the console gets."""

RECORDS_PRUNED = 100_000
"""Old records of one kind (jobs, deletions, calls) that are deleted in one hour."""
