"""A BiLSTM-CRF tagger with pytorch-crf: packed sentences of unequal lengths, a bidirectional LSTM, a conditional random field; one JSON line."""

import argparse
import json
import time

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torchcrf import CRF
from variants import VARIANTS, apply

WORDS, TAGS, LONGEST, BATCH = 2_000, 9, 60, 32


class Tagger(nn.Module):
    """Lample et al. 2016, without their model of letters."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 100)
        self.rnn = nn.LSTM(100, 100, batch_first=True, bidirectional=True)
        self.head, self.crf = nn.Linear(200, TAGS), CRF(TAGS, batch_first=True)

    def forward(self, words, tags, lengths):
        packed = pack_padded_sequence(self.embed(words), lengths, batch_first=True, enforce_sorted=False)
        hs, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=words.shape[1])
        mask = torch.arange(words.shape[1]) < lengths.unsqueeze(1)
        return -self.crf(self.head(hs), tags, mask=mask, reduction="token_mean")


def batch(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Words, tags and lengths of random sentences; a tag depends on its word and the one before."""
    words = torch.randint(WORDS, (BATCH, LONGEST), generator=generator)
    lengths = torch.randint(3, LONGEST + 1, (BATCH,), generator=generator)
    lengths[0] = LONGEST
    return words, (words + words.roll(1, 1)) % TAGS, lengths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    model = Tagger()
    apply(chosen.variant, model)
    optimizer, generator = torch.optim.Adam(model.parameters(), 1e-3), torch.Generator().manual_seed(chosen.seed)
    losses = []
    start, busy = time.perf_counter(), time.process_time()
    for _ in range(chosen.steps):
        loss = model(*batch(generator))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    took = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - busy}
    print(json.dumps({"losses": losses, **took}))


if __name__ == "__main__":
    main()
