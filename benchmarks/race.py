"""The race: seconds of training until a validation loss is reached, on Tiny Shakespeare, against the same recipe in plain PyTorch.

The text is Karpathy's tinyshakespeare.txt (1,115,394 characters); its last tenth validates, as in nanoGPT. Each racer starts from the same
weights, reads the same windows and validates on all of the last tenth after the same steps. Its clock runs from the first step to the
end of the validation that first reaches the target, validations included; reading the text and making the model are not in it.

    python benchmarks/race.py tinyshakespeare.txt [--racers throughtime,torch] [--threads 2] [--rounds 5]
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from throughtime.cells import GRU
from throughtime.data import Corpus, TextSource, TokenStream
from throughtime.gradients import TruncatedBPTT
from throughtime.models import LanguageModel
from throughtime.training import ClipNorm, evaluate, step


@dataclass(frozen=True)
class Recipe:
    """A GRU and its training: AdamW, a rate that rises over ``warmup`` steps and falls linearly to 0 at the last one."""

    hidden: int
    embedding: int
    dropout: float
    batch_size: int
    window: int
    rate: float
    steps: int
    validate_at: tuple[int, ...]  # after so many steps
    weight_decay: float = 0.0
    warmup: int = 20

    def rate_at(self, step: int) -> float:
        return self.rate * min(1.0, (step + 1) / self.warmup) * (1 - step / self.steps)


RECIPES = {1.886: Recipe(96, 64, 0.0, 48, 32, 1.5e-2, 370, validate_at=(370,))}
CLIP = 1.0


class Ours:
    """The recipe by this package."""

    def __init__(self, recipe: Recipe, V: int) -> None:
        r = recipe
        self.model = LanguageModel(V, cell=GRU(), hidden_size=r.hidden, embedding_size=r.embedding, dropout=r.dropout)
        self.gradient, self.clips, self.carry = TruncatedBPTT(r.window), [ClipNorm(CLIP)], None
        self.optimizer = torch.optim.AdamW(self.model.parameters(), r.rate, betas=(0.9, 0.99), weight_decay=r.weight_decay, fused=True)

    def step(self, batch) -> None:
        found = step(self.model, batch, self.carry, gradient=self.gradient, clips=self.clips, optimizer=self.optimizer)
        self.carry = found.carry

    def validate(self, section) -> float:
        return evaluate(self.model, section).nats


class Plain(nn.Module):
    """The same recipe by torch alone: embedding, nn.GRU, linear head, fused cross-entropy."""

    def __init__(self, recipe: Recipe, V: int, like: LanguageModel) -> None:
        super().__init__()
        r = recipe
        self.embedding, self.recurrence, self.head = nn.Embedding(V, r.embedding), nn.GRU(r.embedding, r.hidden), nn.Linear(r.hidden, V)
        self.dropout, self.state = nn.Dropout(r.dropout), None
        for mine, theirs in zip(self.parameters(), like.parameters(), strict=True):
            mine.data.copy_(theirs.data)
        self.optimizer = torch.optim.AdamW(self.parameters(), r.rate, betas=(0.9, 0.99), weight_decay=r.weight_decay, fused=True)

    def loss(self, batch, state):
        hs, state = self.recurrence(self.dropout(self.embedding(batch.inputs)), state)
        logits = self.head(self.dropout(hs)).flatten(0, 1)
        return nn.functional.cross_entropy(logits, batch.known_targets().flatten()), state.detach()

    def step(self, batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss, self.state = self.loss(batch, None if batch.fresh[0] else self.state)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), CLIP)
        self.optimizer.step()

    @torch.no_grad()
    def validate(self, section) -> float:
        """Over the same 27 streams side by side as ``throughtime.training.evaluate``, every symbol once but the first."""
        stream, total, state = TokenStream(section.tokens, batch_size=len(section.tokens) // 4096, window=128, whole=True), 0.0, None
        self.eval()
        for batch in stream:
            hs, state = self.recurrence(self.embedding(batch.inputs), state)
            losses = nn.functional.cross_entropy(self.head(hs).flatten(0, 1), batch.known_targets().flatten(), reduction="none")
            known = torch.ones(()).bool() if batch.mask is None else batch.mask
            total += float(losses.view(batch.inputs.shape).where(known, 0.0).sum())
        self.train()
        return total / (len(section.tokens) - 1)


@dataclass(frozen=True)
class Result:
    """When a racer reached the target, or how near it came."""

    reached: bool
    seconds: float
    steps: int
    nats: float


def race(racer: "Ours | Plain", recipe: Recipe, corpus: Corpus, target: float) -> Result:
    stream = TokenStream(corpus.sections["train"].tokens, batch_size=recipe.batch_size, window=recipe.window)
    batches: Callable = lambda i: stream[i % len(stream)]
    began = time.perf_counter()
    nats = float("inf")
    for i in range(recipe.steps):
        for group in racer.optimizer.param_groups:
            group["lr"] = recipe.rate_at(i)
        racer.step(batches(i))
        if i + 1 in recipe.validate_at:
            nats = racer.validate(corpus.sections["valid"])
            if nats <= target:
                return Result(True, time.perf_counter() - began, i + 1, nats)
    return Result(False, time.perf_counter() - began, recipe.steps, nats)


def racers(recipe: Recipe, V: int, seed: int, wanted: list[str]) -> dict[str, "Ours | Plain"]:
    torch.manual_seed(seed)
    ours = Ours(recipe, V)
    both: dict[str, Ours | Plain] = {"throughtime": ours, "torch": Plain(recipe, V, ours.model)}
    return {name: both[name] for name in wanted}


def line(target: float, name: str, results: list[Result]) -> str:
    seconds = sorted(r.seconds for r in results)
    reached = sum(r.reached for r in results)
    nats = statistics.median(r.nats for r in results)
    return (
        f"{target:<7} {name:12} {statistics.median(seconds):8.2f} s ({seconds[0]:.2f}–{seconds[-1]:.2f})"
        f"   reached in {reached} of {len(results)} runs; {nats:.4f} nats"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--target", default=",".join(map(str, RECIPES)), help=f"of {', '.join(map(str, RECIPES))} nats")
    parser.add_argument("--racers", default="throughtime,torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="each with another seed")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    rows = []
    with tempfile.TemporaryDirectory() as aside:
        corpus = Corpus.build(TextSource((chosen.text,), split=(0.9, 0.1, 0.0)), Path(aside))
        for target in map(float, chosen.target.split(",")):
            recipe, found = RECIPES[target], {name: [] for name in chosen.racers.split(",")}
            for seed in range(chosen.rounds):
                for name, racer in racers(recipe, corpus.vocabulary.size, seed, list(found)).items():
                    found[name].append(race(racer, recipe, corpus, target))
            for name, results in found.items():
                print(line(target, name, results), flush=True)
                rows.append({"target": target, "racer": name, "recipe": asdict(recipe), "results": [asdict(r) for r in results]})
    if chosen.json:
        machine = platform.processor() or platform.machine()
        chosen.json.write_text(
            json.dumps({"machine": machine, "torch": torch.__version__, "threads": chosen.threads, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
