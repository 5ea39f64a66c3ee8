"""A measurement of gradient flow as JSON, a page, a table and a figure. Reports read measurements; nothing here measures."""

from ._figure import to_figure as to_figure
from ._frame import to_frame as to_frame
from ._json import Symbols as Symbols, to_text as to_text
from ._page import Shown as Shown, write_page as write_page
