"""Batches from sequences: text becomes ids, ids become streams, streams become windows; and synthetic tasks."""

from ._batch import Batch as Batch
from ._corpus import (
    Corpus as Corpus,
    Level as Level,
    Section as Section,
    TextSource as TextSource,
    encode_file as encode_file,
    read_vocabulary as read_vocabulary,
)
from ._documents import Documents as Documents, first_symbol as first_symbol
from ._named import NAMED as NAMED, NamedData as NamedData, NamedFile as NamedFile, data_folder as data_folder, fetch as fetch
from ._frames import Frames as Frames, NextFrames as NextFrames, read_frames as read_frames, write_frames as write_frames
from ._pieces import Pieces as Pieces
from ._labelled import labelled as labelled, mask_of_lengths as mask_of_lengths
from ._labels import (
    LabelColumns as LabelColumns,
    LabelledFile as LabelledFile,
    Labels as Labels,
    LabelSequences as LabelSequences,
    number_labels as number_labels,
    read_labels as read_labels,
    write_labels as write_labels,
)
from ._sequences import AbstractSequences as AbstractSequences, Place as Place, SequenceStream as SequenceStream, Steps as Steps
from ._table_rows import Columns as Columns, Read as Read, read_series as read_series
from ._series import (
    AbstractSeries as AbstractSeries,
    Group as Group,
    SeriesArrays as SeriesArrays,
    SeriesTable as SeriesTable,
)
from ._standardised import (
    carried_on as carried_on,
    Standardised as Standardised,
    standardised as standardised,
    measured_series as measured_series,
    write_series as write_series,
)
from ._origins import Origins as Origins, input_size as input_size, inputs_of as inputs_of
from ._times import Calendar as Calendar
from ._stream import AbstractStream as AbstractStream, Tokens as Tokens, TokenStream as TokenStream
from ._tasks import adding as adding, copying as copying, delayed_addition as delayed_addition, temporal_order as temporal_order
from .vocabulary import (
    AbstractVocabulary as AbstractVocabulary,
    Bytes as Bytes,
    Chars as Chars,
    Subwords as Subwords,
    Words as Words,
    vocabulary_from_json as vocabulary_from_json,
)
