"""The same, from a shell."""

from ._app import main as main
