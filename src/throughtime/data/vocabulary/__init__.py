"""Vocabularies: the symbols of a text, counted from a stream of chunks and saved as JSON. A file a level.

V vocabulary. ``<unk>`` is symbol 0 of the levels where a symbol can be unknown.
"""

from ._abstract import ANY_BYTES as ANY_BYTES, UNKNOWN as UNKNOWN, AbstractVocabulary as AbstractVocabulary
from ._bytes import Bytes as Bytes
from ._chars import Chars as Chars
from ._words import END_OF_LINE as END_OF_LINE, Words as Words
from ._subwords import Subwords as Subwords
from ._json import vocabulary_from_json as vocabulary_from_json
