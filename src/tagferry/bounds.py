"""How much is taken from strangers: what clients and registries send has an end in size, count, depth and time.

What operators may want to set is a setting instead (`[limits]`); everything else that bounds input stands here, so that
it can be read in one place. `docs/limits.md` lists both.
"""

HEAD_BYTES = 64 * 1024
"""Bytes of a request's head, from its method to the empty line."""
HEADERS = 100
"""Headers of a request, and fields of its trailer."""
PIPELINED_REQUESTS = 64
"""Requests that a connection may send before the first of them is answered. Further ones are not read: the connection
is closed after the last answer."""
FRAMING_BYTES = 64 * 1024
"""Bytes of a chunked body that are not content (sizes and extensions of chunks, the trailer), beyond an eighth of the
content."""
UNREAD_BODY_BYTES = 1024 * 1024
"""Bytes of a body that are read and dropped after its request was answered; then the connection is closed."""
BODY_PIECES = 4000
"""Chunks of a body, beyond one for every 64 bytes of content."""
LINGER_SECONDS = 5.0
"""How long a connection that is to be closed may stay open so that its client can read the last answer."""
TRANSFER_RATE = 256
"""Bytes a second, on average over `stall_seconds`, that a client has to send of a body, or take of an answer."""
ACCEPTS_AT_ONCE = 8
"""Connections that a listener accepts before other work gets its turn."""
DESCRIPTOR_RESERVE = 64
"""File descriptors that are left to the disk, the database and registries; half of the others are for connections."""
ANONYMOUS_BODIES_BYTES = 64 * 1024 * 1024
"""Bytes of bodies, of all requests to the management API whose senders are not known yet; a quarter of it from one
address. Further ones are answered with 503."""
ANONYMOUS_BODY_SECONDS = 60.0
"""How long such a body may take to arrive."""
LOOP_LAG_SECONDS = 0.1
"""How late the event loop may be, for half a second on end, before new requests are answered with 503."""
SHED_SECONDS = 2.0
"""How long a connection is not read after a request on it was refused for overload."""
MANAGEMENT_RESERVE = 32
"""Requests beyond `requests` that are let in where they have credentials of the management API."""
READINESS_SECONDS = 5.0
"""How long `/readyz` waits for the database."""

MANIFEST_BYTES = 4 * 1024 * 1024
"""Bytes of a manifest, pushed or read. The distribution-spec asks registries to take at least this much."""
CONTENT_BYTES = 1 << 50
"""Bytes that a manifest may refer to: of one descriptor, and of all of them together. It is more than any storage takes
as one object, and the sum over an image of as many manifests as are copied still fits a database's integer."""
DESCRIPTORS = 10_000
"""Layers of a manifest, or entries of an index. Images have at most 127 layers where they are to be run."""
DESCRIPTOR_URLS = 100
"""Addresses of one descriptor."""
MEDIA_TYPE_CHARACTERS = 255
"""Characters of a media type or an artifact type, as RFC 6838, section 4.2, has them, or of a part of a platform."""
PARSED_AT_ONCE_BYTES = 64 * 1024
"""Bytes of the largest manifest that is parsed on the event loop, which takes about three milliseconds."""
JSON_DEPTH = 64
"""Objects and arrays of a JSON document that may be nested in each other."""
CONFIG_BYTES = MANIFEST_BYTES
"""Bytes of an image's configuration where it has to be read."""
IMAGE_MANIFESTS = 1000
"""Manifests that one image may refer to, at any depth, so that no index can keep a copy busy for ever."""
IMAGE_MANIFEST_BYTES = 16 * 1024 * 1024
"""Bytes of all manifests of one image, and of all that is attached to it, each. In memory they take about five times
as many."""
MANIFESTS_HELD_BYTES = 64 * 1024 * 1024
"""Bytes of the manifests that all copies of a process hold at once; who would hold more is tried again later."""
GUARANTEED_MANIFEST_BYTES = 1024 * 1024
"""Bytes of one image's manifests, and of all that is attached to it, for which there is always room beside others'."""
INDEX_DEPTH = 8
"""Indexes that may be nested in each other."""
QUESTION_TAGS = 100_000
"""Tags that one question for a list looks at over all repositories; behind them, repositories have no size or dates."""
QUESTION_MANIFESTS = 5000
"""Manifests that one question for a list reads; what was read before is remembered, and does not count."""
QUESTION_BYTES = 64 * 1024 * 1024
"""Bytes of manifests and configurations that it reads."""
LISTED_IMAGE_DESCRIPTORS = 20_000
"""Layers and children of one image that lists count; an image of more is shown with the size of these."""
LISTED_DESCRIPTORS = 100_000
"""Layers and children that are remembered of a store's images, so that lists need not read them again."""
LISTED_TEXT_BYTES = 8 * 1024 * 1024
"""Bytes of manifests that one list of tags shows; further tags are shown without."""
NESTED_INDEX_BYTES = 16 * 1024 * 1024
"""Bytes of the indexes that an index leads to, at any depth, when it is pushed to an embedded registry."""
OPEN_UPLOADS = 4096
"""Upload sessions of an embedded registry that are kept in memory; the files of others are read again to go on."""
UPLOAD_TURN_SECONDS = 75.0
"""How long a request waits for another one that writes to the same upload."""
LISTED_NAMES = 10_000
"""Tags or repositories on one page of an embedded registry's lists; a link leads to the next one."""
REMEMBERED_TAGS = 200_000
"""Names of tags that an embedded registry remembers, so that pages of them need not read the directory again."""
REFERRER_PAGE_BYTES = 4 * 1024 * 1024
"""Bytes after which an embedded registry ends a page of referrers; a link leads to the next one."""
REFERRERS_READ_BYTES = 32 * 1024 * 1024
"""Bytes of referrers of one manifest that are read at once from an embedded registry's disk."""
REFERRERS = 1000
"""Referrers of one manifest that are copied; further ones stay behind."""
ATTACHMENTS = 5000
"""Attachments of one image that are copied, with what is attached to them."""

AUTHORIZATION_BYTES = 16 * 1024
"""Bytes of the Authorization header of a signed request."""
SIGNED_HEADERS = 100
"""Names in `SignedHeaders`; each names a header once."""
PATH_BYTES = 8 * 1024
"""Bytes of the path of a request to the management API, as it is sent."""
QUERY_PARAMETERS = 200
"""Parameters in the query of a request to the management API, or to the token service of an embedded registry."""
PASSWORD_CHARACTERS = 4096
"""Characters of a password."""
IAM_TOKEN_CHARACTERS = 255
"""Characters of an IAM token; they have 64."""
SEALED_BYTES = 16 * 1024
"""Bytes of a login secret, a security token or a token of an embedded registry."""
BODY_MARKS = 50_000
"""Brackets, braces, commas and quotation marks in the JSON body of a request to the management API."""
ERRORS_TOLD = 20
"""Errors of one request that its answer lists."""

PASSWORDS_WAITING = 128
"""Logins that may wait for their password to be verified, of all addresses together."""
PASSWORDS_WAITING_OF_ADDRESS = 16
"""Such logins from one address; of an IPv6 address the first 64 bits count."""
LOCKED_NAMES = 20
"""Names or access keys of which failed authentications are remembered for one address."""
LOCKOUT_ADDRESSES = 10_000
"""Addresses for which failed authentications are remembered."""
FORWARDED_HOPS = 16
"""Addresses in `X-Forwarded-For` that are looked at, from the right."""
SIGNATURES_OF_USER = 100_000
"""Changing requests that one user may sign within 15 minutes, since each signature is remembered for so long."""

ANSWER_HEAD_BYTES = 64 * 1024
"""Bytes that a registry's answer may have before its body begins, and between two parts of its body."""
TOKEN_ANSWER_BYTES = 256 * 1024
"""Bytes of a token server's answer."""
REGISTRY_TOKEN_CHARACTERS = 32 * 1024
"""Characters of a token: hardly any server takes a header as long as this."""
ADDRESS_CHARACTERS = 16 * 1024
"""Characters of an address that a registry names, signed ones of its storage included."""
PROGRESS_BYTES = 64 * 1024
"""Bytes by which a transfer that breaks off has to get further for its earlier failures not to count any more."""
ERROR_BODY_BYTES = 16 * 1024
"""Bytes that are read of a registry's answer that tells of an error."""
TAG_LIST_BYTES = 16 * 1024 * 1024
"""Bytes of a list of tags or repositories, over all of its pages: a registry that ignores `n` puts all into one."""
TAG_LIST_NAMES = 200_000
"""Names in such a list."""
TAG_LIST_PAGES = 10_000
"""Pages of a list of tags or repositories that are followed."""
REFERRER_LIST_BYTES = 8 * 1024 * 1024
"""Bytes of a list of referrers, over all of its pages."""
LISTED_REFERRERS = 10_000
"""Entries of such a list."""
REFERRER_PAGES = 100
"""Pages of a list of referrers that are followed."""

RECORDED_TEXT = 4000
"""Characters of a text that quotes others, such as the reason of a job, that are kept in the database."""
JOB_LOSSES = 5
"""How often a job is started again after its worker was lost while it ran; then it fails."""

RECORDS_PRUNED = 100_000
"""Old records of one kind (jobs, deletions, calls) that are deleted in one hour, whatever the clock says."""
