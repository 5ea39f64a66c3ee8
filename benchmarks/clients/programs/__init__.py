"""Programs of others: a file each, which names its repository and makes its command. Nothing of theirs is here."""

from . import cleanrl, guitar_amp, neuralforecast, neuralhydrology, rnnoise, word_language_model
from ._program import Program as Program

PROGRAMS = {
    "cleanrl": cleanrl.ATARI,
    "cleanrl_cartpole": cleanrl.POLE,
    "guitar_gru": guitar_amp.GRU,
    "guitar_lstm": guitar_amp.LSTM,
    "neuralforecast_gru": neuralforecast.GRU,
    "neuralforecast_lstm": neuralforecast.LSTM,
    "neuralhydrology": neuralhydrology.PROGRAM,
    "rnnoise": rnnoise.PROGRAM,
    "word_language_model": word_language_model.PROGRAM,
}
