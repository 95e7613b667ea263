"""Image stores in OCI layouts (OCI image-spec, "Image Layout"): a directory, or an archive of one."""

from tagferry.layout.archive import ArchiveFiles
from tagferry.layout.directory import DirectoryFiles
from tagferry.layout.store import LayoutStore

__all__ = ["ArchiveFiles", "DirectoryFiles", "LayoutStore"]
