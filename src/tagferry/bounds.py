"""How much is taken from strangers: what clients and registries send has an end in size, count, depth and time.

What operators may want to set is a setting instead (`[limits]`); everything else that bounds input stands here, so that
it can be read in one place. `docs/limits.md` lists both.
"""

MANIFEST_BYTES = 4 * 1024 * 1024
"""Bytes of a manifest, pushed or read. The distribution-spec asks registries to take at least this much."""
CONFIG_BYTES = MANIFEST_BYTES
"""Bytes of an image's configuration where it has to be read."""
IMAGE_MANIFESTS = 1000
"""Manifests that one image may refer to, at any depth, so that no index can keep a copy busy for ever."""
INDEX_DEPTH = 8
"""Indexes that may be nested in each other."""
REFERRERS = 1000
"""Referrers of one manifest that are copied; further ones stay behind."""
ATTACHMENTS = 5000
"""Attachments of one image that are copied, with what is attached to them."""

ANSWER_HEAD_BYTES = 64 * 1024
"""Bytes that a registry's answer may have before its body begins, and between two parts of its body."""
ERROR_BODY_BYTES = 16 * 1024
"""Bytes that are read of a registry's answer that tells of an error."""
TAG_LIST_BYTES = 32 * 1024 * 1024
"""Bytes of one page of tags: a registry that ignores `n` puts all tags into one."""
TAG_LIST_PAGES = 10_000
"""Pages of a list of tags or repositories that are followed."""
REFERRER_PAGES = 100
"""Pages of a list of referrers that are followed."""
