"""The race: seconds of training until a validation loss is reached, on Tiny Shakespeare, against the same recipe in plain PyTorch.

The text is Karpathy's tinyshakespeare.txt (1,115,394 characters); its last tenth validates, as in nanoGPT. A recipe is what is typed after
``throughtime train text``: this file builds the model, optimiser and schedule that the command builds. Each racer starts from the same
weights, reads the same windows and validates on all of the last tenth after the same steps. Its clock runs from the first step to the
end of the validation that first reaches the target, validations included; reading the text and making the model are not in it.

    python benchmarks/race.py tinyshakespeare.txt [--target 1.886] [--racers throughtime,torch] [--threads 2] [--rounds 5]
"""

import argparse
import json
import platform
import shlex
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from throughtime.cli._flags import parse
from throughtime.cli._verbs import TrainText
from throughtime.data import Section, TokenStream
from throughtime.training import RunFolder, TextRun, TextTask, Training, begin, check_run, evaluate, step
from throughtime.training._optimisers import build_optimizer
from throughtime.training._schedule import learning_rate

SPLIT = "--split 0.9,0.1,0"
RECIPES = {
    1.886: "--hidden 96 --embedding 64 --init orthogonal --optimizer nadam --lr 0.025 --schedule linear --warmup 10 "
    "--batch-size 64 --bptt 32 --steps 170",
    1.5: "--hidden 320 --embedding 64 --dropout 0.2 --input-dropout 0 --optimizer nadam --lr 0.005 --schedule linear --warmup 100 "
    "--batch-size 32 --bptt 64 --steps 2200",
    1.4697: "--hidden 384 --embedding 64 --dropout 0.4 --input-dropout 0 --optimizer nadam --lr 0.004 --schedule linear --warmup 100 "
    "--batch-size 32 --bptt 64 --steps 5200",
}


class Ours:
    """The recipe by this package."""

    def __init__(self, training: Training) -> None:
        self.training, self.carry = training, None
        self.optimizer = build_optimizer(training.optimiser, training.model)  # the training's own lets a step be saved from aside

    def step(self, batch) -> None:
        t = self.training
        self.carry = step(t.model, batch, self.carry, gradient=t.gradient, clips=t.clips, optimizer=self.optimizer).carry

    def validate(self, section: Section, streams: int | None = None) -> float:
        return evaluate(self.training.model, section, streams=streams).nats


class OneHot(nn.Module):
    """What a PyTorch user writes in the place of an embedding."""

    def __init__(self, V: int) -> None:
        super().__init__()
        self.V = V

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(inputs, self.V).float()


class Plain(nn.Module):
    """The same recipe by torch alone: embedding or one-hot vectors, nn.GRU or nn.LSTM, linear head, fused cross-entropy."""

    def __init__(self, training: Training) -> None:
        super().__init__()
        run, like = training.folder.config, training.model
        n, V, E = run.network, like.head.weight.shape[0], like.input.size
        peer = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[n.cell]
        self.embedding, self.head = OneHot(V) if n.embedding == 0 else nn.Embedding(V, E), nn.Linear(n.hidden, V)
        self.recurrence = peer(E, n.hidden, n.layers, dropout=n.dropout if n.layers > 1 else 0.0)
        self.input_dropout = nn.Dropout(n.dropout if n.input_dropout is None else n.input_dropout)
        self.dropout, self.clip, self.state = nn.Dropout(n.dropout), run.optimiser.clip, None
        for mine, theirs in zip(self.in_order(), like.parameters(), strict=True):
            mine.data.copy_(theirs.data)
        self.optimizer = build_optimizer(run.optimiser, self)

    def in_order(self) -> Iterator[nn.Parameter]:
        """The parameters in the order of ``LanguageModel``'s."""
        for part in (self.embedding, self.recurrence, self.head):
            yield from part.parameters()

    def loss(self, batch, state):
        hs, state = self.recurrence(self.input_dropout(self.embedding(batch.inputs)), state)
        logits = self.head(self.dropout(hs)).flatten(0, 1)
        return nn.functional.cross_entropy(logits, batch.known_targets().flatten()), state

    def step(self, batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss, state = self.loss(batch, None if batch.fresh[0] else self.state)
        loss.backward()
        if self.clip:
            nn.utils.clip_grad_norm_(self.parameters(), self.clip)
        self.optimizer.step()
        self.state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()

    @torch.no_grad()
    def validate(self, section: Section, streams: int | None = None) -> float:
        """Over as many streams side by side as ``throughtime.training.evaluate``, every symbol once but the first."""
        streams = streams or len(section.tokens) // 4096
        stream, total, state = TokenStream(section.tokens, batch_size=streams, window=128, whole=True), 0.0, None
        self.eval()
        for batch in stream:
            hs, state = self.recurrence(self.embedding(batch.inputs), state)
            losses = nn.functional.cross_entropy(self.head(hs).flatten(0, 1), batch.known_targets().flatten(), reduction="none")
            known = torch.ones(()).bool() if batch.mask is None else batch.mask
            total += float(losses.view(batch.inputs.shape).where(known, 0.0).sum())
        self.train()
        return total / (len(section.tokens) - 1)


RACERS = {"throughtime": Ours, "torch": Plain}


@dataclass(frozen=True)
class Result:
    """When a racer reached the target, or how near it came."""

    reached: bool
    seconds: float
    steps: int
    nats: float  # of the last validation
    per_step: float  # seconds, without validations


def opened(words: list[str], folder: Path) -> Training:
    """The training that ``throughtime train text`` followed by ``words`` would begin."""
    run = parse(TrainText, words, "throughtime train text", "").run()
    assert isinstance(run, TextRun), "train text makes one"
    check_run(run)
    TextTask.prepare(folder, run, parent=None, told=lambda what, done, total: None)
    beginning = RunFolder(folder, run)
    beginning.write_config()
    begin(beginning)
    training = Training(beginning)
    training.go_on()
    return training


def race(racer: Ours | Plain, training: Training, target: float) -> Result:
    """Step and validate as the command does, until the target is reached or the steps are done."""
    options, steps = training.optimiser, training.loop.steps
    section = training.task.corpus().sections["valid"]
    training.model.train()
    began, in_validation, nats = time.perf_counter(), 0.0, float("inf")
    for i in range(steps):
        rate = learning_rate(options, step=i, epoch=i / len(training.stream), progress=i / steps)
        for group in racer.optimizer.param_groups:
            group["lr"] = rate
        racer.step(training.stream.at(i))
        if i + 1 == steps or (i + 1) % training.eval_every == 0:
            before = time.perf_counter()
            nats = racer.validate(section)
            now = time.perf_counter()
            in_validation += now - before
            print(f"  step {i + 1}: {nats:.4f} nats after {now - began:.1f} s", flush=True)
            if nats <= target or i + 1 == steps:
                return Result(nats <= target, now - began, i + 1, nats, (now - began - in_validation) / (i + 1))
            training.model.train()
    raise AssertionError("the last step validates")


def line(target: float, name: str, results: list[Result]) -> str:
    seconds = sorted(r.seconds for r in results)
    reached = sum(r.reached for r in results)
    nats, ms = statistics.median(r.nats for r in results), 1e3 * statistics.median(r.per_step for r in results)
    return (
        f"{target:<7} {name:12} {statistics.median(seconds):8.2f} s ({seconds[0]:.2f}–{seconds[-1]:.2f})"
        f"   reached in {reached} of {len(results)} runs; {nats:.4f} nats; {ms:.2f} ms a step"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--target", default="1.886", help=f"of {', '.join(map(str, RECIPES))} nats, with commas between")
    parser.add_argument("--recipe", help="flags of throughtime train text, in place of the target's own")
    parser.add_argument("--racers", default=",".join(RACERS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="each with another seed, from --seed on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows = []
    for target in map(float, chosen.target.split(",")):
        recipe = chosen.recipe or RECIPES[target]
        found: dict[str, list[Result]] = {name: [] for name in chosen.racers.split(",")}
        for seed in range(chosen.seed, chosen.seed + chosen.rounds):
            for name, results in found.items():
                with tempfile.TemporaryDirectory() as folder:
                    words = [str(chosen.text), *shlex.split(f"{SPLIT} {recipe} --seed {seed}")]
                    torch.manual_seed(seed)
                    training = opened(words, Path(folder))
                    torch.set_num_threads(chosen.threads)
                    results.append(race(RACERS[name](training), training, target))
                    print(f"{target:<7} {name:12} seed {seed}: {results[-1]}", flush=True)
        for name, results in found.items():
            print(line(target, name, results), flush=True)
            rows.append({"target": target, "racer": name, "recipe": recipe, "results": [asdict(r) for r in results]})
    if chosen.json:
        write(chosen.json, rows, chosen.threads)


def write(file: Path, rows: list[dict], threads: int) -> None:
    """Write the rows; those of other targets and racers that stand in the file stay."""
    raced = {(row["target"], row["racer"]) for row in rows}
    before = json.loads(file.read_text())["rows"] if file.exists() else []
    rows = sorted(
        [row for row in before if (row["target"], row["racer"]) not in raced] + rows,
        key=lambda row: (-row["target"], row["racer"] == "torch"),
    )
    machine = platform.processor() or platform.machine()
    file.write_text(json.dumps({"machine": machine, "torch": torch.__version__, "threads": threads, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
