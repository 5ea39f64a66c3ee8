"""``throughtime data``: the data sets that have names, and where one of them is."""

import sys

from rich.console import Console

from .._bar import bar
from ..data import NAMED, data_folder, fetch
from ._app import Call
from ._table import show_facts
from ._verbs import Data


def data(chosen: Data, call: Call) -> int:
    """The verb. The path alone goes to the standard output, so that a command can take it."""
    if chosen.name is None:
        show_facts(Console(), {name: about(name) for name in NAMED} | {"kept in": str(data_folder())})
        return 0
    with bar(Console(stderr=True)) as show:
        path = fetch(chosen.name, told=lambda done, total: show(f"fetching {chosen.name}", done, total))
    sys.stderr.write(f"{chosen.name}: {NAMED[chosen.name].licence}. Cite: {NAMED[chosen.name].citation}\n")
    print(path)
    return 0


def about(name: str) -> str:
    """A data set in some sentences."""
    data, folder = NAMED[name], data_folder()
    where = data.path(folder) if data.is_here(folder) else f"not here yet, fetched by: throughtime data {name}"
    return f"{data.about}. For train {data.task}; {data.licence}. {where}"


def named_data() -> str:
    """How many are here, in a line."""
    folder = data_folder()
    return f"{sum(data.is_here(folder) for data in NAMED.values())} of {len(NAMED)} data sets in {folder}; listed by: throughtime data"
