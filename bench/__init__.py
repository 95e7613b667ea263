"""The benchmarks: tagferry beside its peers, on the same work, against real registries, in the same run."""
