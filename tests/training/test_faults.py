"""Faults of the disk and of the numbers: nothing spoilt is taken for good, nothing good is lost, and training goes on where it can."""

import errno
import json
import os
import re
import shutil

import pytest
import torch
from _tables import first
from safetensors.torch import load_file

from throughtime import InputError, NonFinite
from throughtime.training import RunFolder, _files, _loop, _rows, resumed, train
from throughtime.training._faults import MOST_ROLLBACKS, MOST_SKIPPED
from throughtime.training._files import read_tensors, write_tensors
from throughtime.training._report import Report

pytestmark = pytest.mark.usefixtures("no_pictures")


def rows(run: RunFolder, kind: str) -> list[dict]:
    return [row for row in map(json.loads, run.metrics.read_text().splitlines()) if row["kind"] == kind]


def same(a: RunFolder, b: RunFolder) -> bool:
    pairs = [(load_file(a.path / name), load_file(b.path / name)) for name in ("model.safetensors", "state.safetensors")]
    return all(one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one) for one, other in pairs)


def failing_steps(monkeypatch, wanted) -> list[int]:
    """Calls of the step whose number, from 0, is wanted raise NonFinite; the calls that did."""
    real, calls, failed = _loop.step, iter(range(1000)), []

    def spoiled(*args, **kwargs):
        if wanted(call := next(calls)):
            failed.append(call)
            raise NonFinite("the loss, at time step 3 of 8")
        return real(*args, **kwargs)

    monkeypatch.setattr(_loop, "step", spoiled)
    return failed


class TestAFileThatWasSpoilt:
    @pytest.mark.parametrize("flip", [0x01, 0xFF])
    def test_no_changed_byte_changes_what_is_read(self, tmp_path, flip):
        path = tmp_path / "x.safetensors"
        tensors = {"w": torch.randn(40, 7), "n": torch.arange(9), "empty": torch.zeros(0), "one": torch.tensor(2.0), "b": torch.ones(3) > 0}
        write_tensors(path, tensors, {"step": 3})
        whole = path.read_bytes()
        for i in range(0, len(whole), 7):
            path.write_bytes(whole[:i] + bytes([whole[i] ^ flip]) + whole[i + 1 :])
            try:
                read, about = read_tensors(path)
            except InputError:
                continue
            assert about == {"step": 3}, i
            assert read.keys() == tensors.keys()
            assert all(torch.equal(read[k], v) and read[k].dtype == v.dtype for k, v in tensors.items()), i

    def test_a_changed_number_is_told(self, tmp_path):
        write_tensors(tmp_path / "x", {"w": torch.zeros(9)}, None)
        whole = (tmp_path / "x").read_bytes()
        (tmp_path / "x").write_bytes(whole[:-1] + b"\x01")
        with pytest.raises(InputError, match="its checksum is another one"):
            read_tensors(tmp_path / "x")

    @pytest.mark.parametrize("spoil", first(["changed", "missing"], ["changed", "missing", "cut", "empty"]))
    def test_the_save_before_it_takes_its_place(self, make_run, console, spoil):
        run, whole = make_run("run"), make_run("whole")
        left = iter(range(7))
        train(run, console=console, stop=lambda: next(left, None) is None)
        raw = run.state.read_bytes()
        if spoil == "missing":
            run.state.unlink()
        else:
            run.state.write_bytes({"cut": raw[:-5], "empty": b"", "changed": raw[:-1] + bytes([raw[-1] ^ 1])}[spoil])
        train(run, console=console)
        said = " ".join(console.file.getvalue().split())
        assert re.search(r"state\.safetensors is damaged or missing; the run goes on from the save before it, after step [05]\b", said)
        train(whole, console=console)
        assert same(run, whole)
        assert [r["step"] for r in rows(run, "valid")] == [r["step"] for r in rows(whole, "valid")]

    def test_neither_is_good(self, make_run, console):
        run = make_run()
        train(run, console=console)
        for path in (run.state, run.previous_state):
            path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(InputError, match=r"/state\.safetensors cannot be read"):
            train(run, console=console)

    @pytest.mark.slow
    def test_the_best_weights(self, make_run, console):
        run = make_run(loop={"steps": 7})
        left = iter(range(6))
        train(run, console=console, stop=lambda: next(left, None) is None)
        run.model.write_bytes(run.model.read_bytes()[:-3])
        train(run, console=console)
        assert "the latest weights take its place until the next validation" in " ".join(console.file.getvalue().split())
        model, state = load_file(run.model), load_file(run.state)
        assert all(torch.equal(model[name], state[f"model.{name}"]) for name in model)  # the validation at the end is the best since


class TestAStepThatIsNotFinite:
    def test_is_skipped(self, make_run, console, monkeypatch):
        run = make_run(loop={"on_nonfinite": "skip"})
        failed = failing_steps(monkeypatch, lambda call: call in (3, 4, 8))
        ended = train(run, console=console)
        assert (ended.why, ended.step, failed) == ("finished", 12, [3, 4, 8])
        assert [(r["step"], r["first"]) for r in rows(run, "skipped")] == [(s, "the loss, at time step 3 of 8") for s in (4, 5, 9)]
        with resumed(run) as training:
            assert (training.progress.skipped, training.progress.since.steps) == (3, 0)

    def test_the_streams_begin_anew_after_it(self, make_run, console, monkeypatch):
        """The state that was carried in may be what went wrong."""
        run, real, carried = make_run(loop={"on_nonfinite": "skip"}), _loop.step, []

        def spoiled(model, batch, carry, **kwargs):
            carried.append(carry is not None)
            if len(carried) == 4:
                raise NonFinite("the loss, at time step 3 of 8")
            return real(model, batch, carry, **kwargs)

        monkeypatch.setattr(_loop, "step", spoiled)
        train(run, console=console)
        assert carried[:7] == [False, True, True, True, False, True, True]

    def test_is_not_skipped_for_ever(self, make_run, console, monkeypatch):
        run = make_run(loop={"on_nonfinite": "skip", "steps": 40})
        failed = failing_steps(monkeypatch, lambda call: call >= 2)
        with pytest.raises(NonFinite, match=f"not a finite number at step {3 + MOST_SKIPPED}: the loss"):
            train(run, console=console)
        assert len(failed) == MOST_SKIPPED + 1

    def test_leads_back_to_the_saved_state(self, make_run, console, monkeypatch):
        run = make_run(loop={"on_nonfinite": "rollback", "steps": 20})
        failing_steps(monkeypatch, lambda call: call == 13)
        assert train(run, console=console).why == "finished"
        (back,) = rows(run, "rollback")
        assert (back["step"], back["rate_factor"]) == (10, 0.5)
        rates = {r["step"]: r["learning_rate"] for r in rows(run, "train")}
        assert rates == {10: 2e-3, 20: 1e-3}
        assert [r["step"] for r in rows(run, "valid")] == [5, 10, 15, 20]  # none twice

    @pytest.mark.slow
    def test_leads_back_a_few_times_only(self, make_run, console):
        """A step so long that a 32nd part of it is far too long as well."""
        optimiser = {"optimizer": "sgd", "lr": 1e30, "clip": 0.0}
        run = make_run(network={"cell": "rnn", "activation": "relu"}, optimiser=optimiser, loop={"on_nonfinite": "rollback"})
        with pytest.raises(NonFinite, match="not a finite number at step"):
            train(run, console=console)
        assert len(rows(run, "rollback")) == MOST_ROLLBACKS
        for file in (run.model, run.state):
            assert all(torch.isfinite(t).all() for t in load_file(file).values() if t.is_floating_point())

    def test_a_rollback_is_resumed_to_the_same_bits(self, make_run, console, monkeypatch):
        whole, cut = (make_run(name, loop={"on_nonfinite": "rollback", "steps": 20}) for name in ("whole", "cut"))
        for run, patience in ((whole, 1000), (cut, 2)):
            failed, left = failing_steps(monkeypatch, lambda call: call == 13), iter(range(patience))
            ended = train(run, console=console, stop=lambda failed=failed, left=left: bool(failed) and next(left, None) is None)
            monkeypatch.undo()
        assert (ended.why, ended.step) == ("interrupted", 12)  # back from 14 to 10, and on
        train(cut, console=console)
        assert same(whole, cut)


class TestADiskThatIsFull:
    def test_training_goes_on_and_saves_later(self, make_run, console, monkeypatch):
        run, whole = make_run("run"), make_run("whole")
        real, left = _files._into_place, iter(range(3))

        def full(aside, path, previous=None):
            if path.suffix == ".safetensors" and next(left, None) is not None:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            real(aside, path, previous)

        monkeypatch.setattr(_files, "_into_place", full)
        assert train(run, console=console).why == "finished"
        said = " ".join(console.file.getvalue().split())
        assert "cannot save the best weights (No space left on device); training goes on" in said
        assert "cannot save (No space left on device); training goes on, the state after step 0 stands" in said
        assert "saved again" in said
        first = next(line for line in console.file.getvalue().split("\n") if "valid" in line)
        assert "best" not in first  # its weights were not written
        monkeypatch.undo()
        train(whole, console=console)
        one, other = load_file(run.state), load_file(whole.state)
        assert all(torch.equal(one[name], other[name]) for name in one)

    def test_the_last_save_must_go(self, make_run, console, monkeypatch):
        run = make_run()

        def full(aside, path, previous=None):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

        monkeypatch.setattr(_files, "_into_place", full)
        with pytest.raises(OSError, match="No space"):
            train(run, console=console)
        monkeypatch.undo()
        assert train(run, console=console).why == "finished"  # from the state at the beginning

    def test_rows_wait_for_room_and_none_is_torn(self, tmp_path, monkeypatch):
        path, real, room = tmp_path / "m.jsonl", os.write, [False]

        def write(file, data):
            if room[0]:
                return real(file, data)
            real(file, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        kept = _rows.Rows(path, 0)
        kept.add({"kind": "x", "step": 1})
        monkeypatch.setattr(os, "write", write)
        for i in (2, 3):
            kept.add({"kind": "x", "step": i})
            assert [r["step"] for r in _rows.read_rows(path)] == [1]
            assert path.read_bytes().endswith(b"\n")
        with pytest.raises(OSError, match="No space"):
            kept.flush()
        room[0] = True
        kept.flush()
        kept.close()
        assert [r["step"] for r in _rows.read_rows(path)] == [1, 2, 3]

    @pytest.mark.parametrize(
        "line",
        [
            '{"kind": "train", "step": 2, "loss": 1, "bits_per_token": 1, "gradient_norm": [null]}',
            '{"kind": "train", "step": 2, "loss": 1, "bits_per_token": 1}',
            '{"kind": "valid", "step": 2, "bits_per_token": 1, "nats": "low"}',
            '{"kind": "flow", "step": 2, "horizon": 3, "profile": []}',
            '{"kind": "flow", "step": 2, "horizon": 3, "profile": ["a"]}',
            '{"kind": "flow", "step": 2, "profile": [1.0]}',
            '{"kind": "x", "step": 1e400}',
            '{"kind": "x", "step": 100000000000000000000000}',
            "[" * 100_000,
        ],
    )
    def test_rows_that_something_else_has_written_are_left_out(self, tmp_path, line):
        path = tmp_path / "m.jsonl"
        path.write_text('{"kind": "flow", "step": 1, "horizon": null, "profile": [1.0, null]}\n' + line + "\n")
        assert [r["step"] for r in _rows.read_rows(path, "bits_per_token")] == [1]

    def test_a_short_write_is_a_full_disk(self, tmp_path, monkeypatch):
        kept, real = _rows.Rows(tmp_path / "m.jsonl", 0), os.write
        monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:5]))
        kept.add({"kind": "x", "step": 1})
        assert (tmp_path / "m.jsonl").read_bytes() == b""
        monkeypatch.undo()
        kept.close()
        assert [r["step"] for r in _rows.read_rows(tmp_path / "m.jsonl")] == [1]

    def test_tensorboard_is_given_up_with_a_word(self, make_run, console, monkeypatch):
        from torch.utils.tensorboard import SummaryWriter

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(SummaryWriter, "add_scalar", full)
        run = make_run()
        assert train(run, console=console).why == "finished"
        said = " ".join(console.file.getvalue().split())
        assert said.count("TensorBoard's events cannot be written (No space left on device) and are left out from here on") == 2  # two logs
        assert rows(run, "train")


@pytest.mark.filterwarnings("error")  # pytest makes a warning of a thread that dies
def test_a_folder_that_is_removed(make_run, console):
    """Training goes on as far as it can, and says what it cannot do; TensorBoard's thread dies without a traceback."""
    run, left = make_run(loop={"save_every": "2steps", "eval_every": 100}), iter(range(100))

    def stop() -> bool:
        if next(left) == 3:
            shutil.rmtree(run.path)
        return False

    with pytest.raises(FileNotFoundError):  # at the last save
        train(run, console=console, stop=stop)
    said = " ".join(console.file.getvalue().split())
    assert "step 4 cannot save (No such file or directory); training goes on, the state after step 2 stands" in said
    assert "and the next try is in 2 steps" in said
    assert "TensorBoard's events cannot be written (No such file or directory) and are left out from here on" in said


class TestALossThatRunsAway:
    def test_is_told_once(self, make_run, console):
        run = make_run()
        with resumed(run) as training:
            training.progress.recent = (2.0,) * 8
            with Report(run, console) as report:
                for loss in (9.0, 9.0, 2.0):
                    training.faults.watch_loss(report, loss)
            assert rows(run, "diverging") == [{"kind": "diverging", "step": 0, "loss": 9.0, "quantile": 2.0}]
            assert "the loss runs away: 9.000, where nine in ten reports before had at most 2.000" in console.file.getvalue()
            assert training.progress.recent == (2.0,) * 8 + (9.0, 9.0, 2.0)
            assert not training.progress.diverging


def test_the_same_tensors_make_the_same_bytes(tmp_path):
    tensors = {"w": torch.ones(3), "v": torch.zeros(2)}
    files = [tmp_path / str(i) for i in range(20)]
    for file in files:
        write_tensors(file, tensors, {"step": 3, "valid_nats": None})
    assert len({file.read_bytes() for file in files}) == 1
