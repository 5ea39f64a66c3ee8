"""Sequences become batches."""

from ._batch import Batch as Batch
