"""Lightning's trainer over a gradient method gives the loop's own numbers, to the last bit, also after a resumed checkpoint."""

import pytest
import torch
from torch.utils.data import DataLoader

L = pytest.importorskip("lightning")

from lightning.fabric.utilities.exceptions import MisconfigurationException  # noqa: E402

import throughtime as tt  # noqa: E402
from throughtime.integrations.lightning import BPTTModule, CarryOver  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
METHOD = tt.gradients.TruncatedBPTT(5, 10)
TOKENS = tt.TokenStream(torch.randint(9, (1 + 4 * 40,), generator=torch.Generator().manual_seed(0)), batch_size=4, window=5)
STREAM = DataLoader([tt.Batch(batch.inputs, batch.targets) for batch in TOKENS], batch_size=None)  # without fresh: the carry begins anew


def sgd(parameters):
    return torch.optim.SGD(parameters, 1.0, momentum=0.9)


def module(max_norm=0.3):
    torch.manual_seed(1)
    return BPTTModule(tt.LanguageModel(9, hidden_size=8), METHOD, sgd, max_norm=max_norm)


def trainer(folder, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return L.Trainer(default_root_dir=folder, **quiet | {"enable_checkpointing": False, "callbacks": [CarryOver()]} | options)


def by_hand(epochs, *, between=False):
    m, carry = module().model, None
    optimizer = sgd(m.parameters())
    for _ in range(epochs):
        carry = carry if between else None
        for batch in STREAM:
            optimizer.zero_grad()
            _, carry = METHOD.accumulate(m, batch, carry)
            torch.nn.utils.clip_grad_norm_(m.parameters(), 0.3)
            optimizer.step()
    return list(m.parameters())


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_same_weights_as_the_loop(tmp_path):
    m = module()
    trainer(tmp_path, max_epochs=2).fit(m, STREAM)
    assert same(m.model.parameters(), by_hand(2))


@pytest.mark.parametrize("between", [False, True])
def test_the_carry_begins_each_epoch_anew_or_goes_on(tmp_path, between):
    m, states = module(), []
    seen = L.pytorch.callbacks.LambdaCallback(on_train_batch_start=lambda trainer, m, batch, index: states.append(m.carry is None))
    trainer(tmp_path, max_epochs=2, callbacks=[CarryOver(between_epochs=between), seen]).fit(m, STREAM)
    assert states == ([True] + [False] * (len(STREAM) - 1)) + ([not between] + [False] * (len(STREAM) - 1))


def test_a_resumed_training_goes_on_to_the_same_bits(tmp_path):
    on = {"callbacks": [CarryOver(between_epochs=True)]}
    first, second, whole = module(), module(), module()
    one = trainer(tmp_path, max_epochs=1, **on)
    one.fit(first, STREAM)
    one.save_checkpoint(tmp_path / "state.ckpt")
    trainer(tmp_path, max_epochs=2, **on).fit(second, STREAM, ckpt_path=str(tmp_path / "state.ckpt"), weights_only=True)
    trainer(tmp_path, max_epochs=2, **on).fit(whole, STREAM)
    assert same(second.model.parameters(), whole.model.parameters())
    assert same(whole.model.parameters(), by_hand(2, between=True))
    assert not same(whole.model.parameters(), by_hand(2))  # the carry makes a difference


def test_the_validation_loss_is_the_mean_over_the_batches(tmp_path):
    m = module()
    (numbers,) = trainer(tmp_path).validate(m, STREAM, verbose=False)
    wanted = [tt.gradients.FullBPTT().accumulate(m.model, batch).loss for batch in STREAM]
    # computed in one way, and summed in another order: len(STREAM) additions in float32, in which Lightning sums
    tolerance = len(STREAM) * torch.finfo(torch.float32).eps
    assert numbers["val_loss"] == pytest.approx(float(torch.stack(wanted).mean()), rel=tolerance)


def test_the_trainers_own_clip_is_refused_by_lightning(tmp_path):
    with pytest.raises(MisconfigurationException, match="gradient clipping is not supported for manual"):
        trainer(tmp_path, max_epochs=1, gradient_clip_val=1.0).fit(module(), STREAM)
