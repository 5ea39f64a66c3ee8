"""The doctests of an integration are collected only where its package is installed."""

from importlib.util import find_spec

PACKAGES = {"sb3": "sb3_contrib", "torchrl": "torchrl", "lightning": "lightning"}
collect_ignore = [f"src/throughtime/integrations/{door}.py" for door, package in PACKAGES.items() if find_spec(package) is None]
