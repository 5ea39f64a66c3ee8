"""The version, which the build takes from the tags of git and writes into ``_built.py``."""

try:
    from ._built import version as __version__
except ImportError:  # the source as it lies in git, before any build
    __version__ = "unknown"
