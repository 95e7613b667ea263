"""tagferry moves container images between registries, complete and bit-identical."""

__version__ = "0.2.0"
