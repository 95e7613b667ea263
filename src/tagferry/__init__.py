"""tagferry moves container images between registries, complete and bit-identical."""

from importlib.metadata import version

__version__ = version("tagferry")
