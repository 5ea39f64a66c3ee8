"""``throughtime forecast``: what comes after the end of a table."""

from rich.console import Console

from .. import _check
from .._check import InputError
from .._console import put
from ..training import TrainedForecaster, check_new_file, load, write_forecast
from ._app import Call
from ._threads import use_threads
from ._verbs import MakeForecast


def forecast(chosen: MakeForecast, call: Call) -> int:
    """The verb."""
    if chosen.interval is not None and not 0 < chosen.interval < 1:
        raise InputError(f"--interval is {chosen.interval!r}; expected a probability above 0 and below 1, such as 0.8.")
    picture = chosen.out.with_suffix(".png")
    check_new_file(chosen.out)
    check_new_file(picture)
    use_threads(chosen.threads)
    trained = load(chosen.run, device=chosen.device)
    if not isinstance(trained, TrainedForecaster):
        raise InputError(f"{chosen.run} is a run of train {trained.options.task}; expected one of train series. Name another run.")
    options = trained.options.series
    if chosen.interval is not None and options.loss != "gaussian" and chosen.interval != options.interval:
        raise InputError(
            f"--interval is {chosen.interval:g} and the run has --loss {options.loss}; expected a run with --loss gaussian, which "
            "knows every interval. Leave it out."
        )
    if chosen.data is None:
        trained.table.refuse_changed()
    found = trained.forecast(chosen.data, steps=chosen.steps, level=chosen.interval)
    write_forecast(found, chosen.out, options.group, options.time)
    found.draw(picture)
    Console().print(
        f"wrote {chosen.out}: {_check.counted(len(found.time), 'step')} of {', '.join(found.targets)}\npicture: {picture}",
        soft_wrap=True, highlight=False, markup=False,
    )  # fmt: skip
    if options.loss == "quantiles" and (chosen.steps or 0) > options.horizon:
        put(
            Console(),
            f"no interval beyond step {options.horizon:,}: quantiles say where each value lies, and not how values hang together; "
            "a run with --loss gaussian has one",
        )
    return 0
