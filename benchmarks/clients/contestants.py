"""Every client: its script, the packages it asks for, what is changed to accelerate it, what is other than its authors' command."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from programs import PROGRAMS, Program

HERE = Path(__file__).resolve().parent
BEFORE_IT_RUNS = {
    "throughtime": "`nn.LSTM, nn.GRU = tt.LSTM, tt.GRU`, before it runs",
    "integration": "both names, and its loop over steps by one call with `reset=`",
}


class Client(NamedTuple):
    """A package's or a program's training, as a command that takes a variant."""

    title: str
    packages: tuple[str, ...]
    script: str
    changed: Mapping[str, str]  # by our variants
    differs: str
    words: tuple[str, ...] = ()
    repository: str | None = None  # that has to lie in --sources, by its name


def of_package(title: str, package: str, script: str, where: str, setting: str, integration: str | None = None) -> Client:
    changed = {"throughtime": where} | ({"integration": integration} if integration else {})
    return Client(f"{package.replace('==', ' ').replace('[torch]', '')}, {title}", (package,), script, changed, setting)


def of_program(name: str, program: Program) -> Client:
    changed = {by: what for by, what in BEFORE_IT_RUNS.items() if by == "throughtime" or program.integration}
    words = ("--program", name)
    return Client(program.title, program.packages, "authors_script.py", changed, program.differs, words, program.repository.split("/")[1])


CLIENTS = {
    "recurrent_ppo": of_package(
        "LSTM 256",
        "sb3-contrib==2.9.2",
        "recurrent_ppo.py",
        "`tt.accelerate(agent.policy)`",
        "its documentation's agent; CartPole without velocities",
        "`sb3.accelerate(agent)`",
    ),
    "torchrl_ppo": of_package(
        "LSTM 128",
        "torchrl==0.14.1",
        "torchrl_ppo.py",
        "`tt.accelerate(body)`, what actor and critic share",
        "its modules and losses in a loop of ours; CartPole without velocities",
        "`torchrl.accelerate(body)`",
    ),
    "darts_rnn": of_package(
        "LSTM 64, two layers",
        "darts[torch]==0.48.1",
        "darts_rnn.py",
        "`tt.accelerate(module)` in `on_fit_start` of a callback",
        "its `RNNModel`, on an hourly series of ours",
    ),
    "skorch_gru": of_package(
        "GRU 64, two layers, T 100",
        "skorch==1.4.0",
        "skorch_gru.py",
        "`tt.accelerate(net.module_)` after `initialize`",
        "its `NeuralNetClassifier`, on sequences of ours",
    ),
    "crf_tagger": of_package(
        "bidirectional LSTM 100, packed",
        "pytorch-crf==0.7.2",
        "crf_tagger.py",
        "`tt.accelerate(model)`",
        "its `CRF` behind a tagger of ours (Lample et al. 2016), on random sentences",
    ),
} | {name: of_program(name, program) for name, program in PROGRAMS.items()}
