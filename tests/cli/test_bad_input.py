"""What a person may type wrong, or give in a wrong shape, as a table; every row gets one sentence of the same form.

Got, expected, remedy: on one line of the standard error that begins with the program's name; status 2; no traceback; nothing left behind.
"""

import gzip
import json
import os
import shlex
from pathlib import Path

import pytest
from _shell import SMALL, TEXT

from throughtime.cli import main

pytestmark = pytest.mark.usefixtures("as_in_a_shell")

VERBS = """
trian                                   | 'trian' is no verb of throughtime; expected perhaps 'train text'
conjure                                 | 'conjure' is no verb of throughtime; expected train text, train series, train frames, train labels, evaluate
train book.txt                          | 'train book.txt' is no verb of throughtime
train txt                               | 'train txt' is no verb of throughtime; expected perhaps 'train text'
-x                                      | '-x' is no verb of throughtime
--frobnicate                            | '--frobnicate' is no verb of throughtime
""
compare                                 | expected perhaps 'compare-gradients'
Evaluate RUN                            | 'Evaluate' is no verb of throughtime; expected perhaps 'evaluate'
""".replace('""\n', "")

FLAGS = """
sample                                  | RUN is missing; expected the run folder. Usage: throughtime sample RUN [FLAGS]
evaluate                                | RUN is missing; expected the run folder
export                                  | RUN is missing; expected the run folder
flow                                    | RUN is missing; expected the run folder
sample RUN more                         | 'more' is one argument too many; expected RUN and flags
completion                              | SHELL is missing; expected the shell that is to read it: bash, zsh or fish. Usage: throughtime completion
completion tcsh                         | SHELL is 'tcsh'; expected bash, zsh or fish. Such as: bash
info now                                | 'now' is one argument too many; expected flags alone
sample RUN --promt x                    | '--promt' is no flag of throughtime sample; expected perhaps --prompt
sample RUN --zzz                        | '--zzz' is no flag of throughtime sample; expected one of those that it has
sample RUN --length                     | --length is given without a value; expected an integer. Such as: --length 10
sample RUN --length --seed 1            | --length is given without a value
sample RUN --length many                | --length is 'many'; expected an integer. Such as: --length 10
sample RUN --length 1.5                 | --length is '1.5'; expected an integer
sample RUN --length inf                 | --length is 'inf'; expected an integer
sample RUN --length=                    | --length is ''; expected an integer
sample RUN --temperature hot            | --temperature is 'hot'; expected a number. Such as: --temperature 1.0
sample RUN --seed x                     | --seed is 'x'; expected an integer. Such as: --seed 10
evaluate RUN --json=yes                 | --json is given a value, 'yes'; expected none
evaluate RUN --section dev              | --section is 'dev'; expected train, valid or test
evaluate RUN --section tset             | --section is 'tset'; expected train, valid or test. Perhaps 'test'?
evaluate RUN --no-data                  | '--no-data' is no flag
export RUN --format tflite              | --format is 'tflite'; expected onnx
demo --minutes x                        | --minutes is 'x'; expected a number
""" + "".join(
    f"train text book.txt {flags:<19} | {words}\n"
    for flags, words in {
        "--hidden wide": "--hidden is 'wide'; expected an integer. Such as: --hidden 256",
        "--hidden 1e-3": "--hidden is '1e-3'; expected an integer",
        "--hidden 2.5": "--hidden is '2.5'; expected an integer",
        "--hiden 5": "'--hiden' is no flag of throughtime train text; expected perhaps --hidden",
        "--learning-rate 1": "'--learning-rate' is no flag",
        "--level emoji": "--level is 'emoji'; expected char, byte, word or bpe",
        "--level wrod": "--level is 'wrod'; expected char, byte, word or bpe. Perhaps 'word'?",
        "--cell LSTM": "--cell is 'LSTM'; expected one of rnn, gru, lstm, mgu",
        "--cell none": "--cell is 'none'; expected one of rnn, gru, lstm, mgu",
        "--cell nosuchmodule:Cell": "the cell is nosuchmodule:Cell, and nosuchmodule cannot be imported (ModuleNotFoundError",
        "--cell throughtime.cells:Nope": "the cell is throughtime.cells:Nope, and throughtime.cells has no such name; expected a class that derives",
        "--cell throughtime.cells:Leaky": "--cell names Leaky, which cannot be made without alpha; expected a class whose arguments all have",
        "--activation None": "--activation is 'None'; expected tanh, relu, identity or sigmoid",
        "--optimizer adamm": "--optimizer is 'adamm'; expected sgd, adam, adamw, nadam, rmsprop or adagrad. Perhaps 'adam'?",
        "--schedule up": "--schedule is 'up'; expected constant, linear, cosine or exponential",
        "--kernels slow": "--kernels is 'slow'; expected fast or plain",
        "--split 0.9,0.1": "--split is '0.9,0.1'; expected three shares that add up to 1, with commas between. Such as: --split 0.9,0.05,0.05",
        "--split 1,2": "--split is '1,2'; expected three shares",
        "--split a,b,c": "--split is 'a,b,c'; expected three shares",
        "--split": "--split is given without a value; expected three shares",
        "--lr fast": "--lr is 'fast'; expected a number. Such as: --lr 0.5",
        "--tied=True": "--tied is given a value, 'True'; expected none",
        "--out": "--out is given without a value; expected a path",
        "--out=": "--out is ''; expected a path",
        "-x": "'-x' is no flag of throughtime train text",
        "--no-hidden": "'--no-hidden' is no flag",
    }.items()
)

NUMBERS = "".join(
    f"train text book.txt {flags:<19} | {words}\n"
    for flags, words in {
        "--hidden 0": "--hidden is 0; expected an integer from 1 to 1,000,000",
        "--hidden -3": "--hidden is -3; expected an integer from 1",
        "--hidden 1e9": "--hidden is 1000000000; expected an integer from 1 to 1,000,000",
        "--hidden 1000000": "Lower --hidden, --layers, --vocab-size, --batch-size or --bptt",
        "--layers 0": "--layers is 0; expected an integer from 1 to 1,000",
        "--layers -1": "--layers is -1",
        "--layers 1001": "--layers is 1001",
        "--embedding -1": "--embedding is -1; expected an integer from 1 to 1,000,000. 0 means one-hot inputs",
        "--embedding 0 --tied": "expected an embedding table to share",
        "--embedding 3 --tied": "--tied is given with --embedding 3 and --hidden 256; expected an embedding table to share",
        "--dropout 1": "--dropout is 1.0; expected a number in [0, 1)",
        "--dropout -0.1": "--dropout is -0.1; expected a number in [0, 1)",
        "--input-dropout 1": "--input-dropout is 1.0; expected a number in [0, 1)",
        "--dropout nan": "--dropout is nan; expected a number in [0, 1)",
        "--activation relu": "--activation relu is given with --cell gru; expected --cell rnn",
        "--cell lstm --activation tanh": "--activation tanh is given with --cell lstm; expected --cell rnn",
        "--cell rnn --forget-bias 1": "--forget-bias is given with --cell rnn; expected --cell gru or lstm: it needs a cell with a gate that keeps",
        "--cell rnn --chrono 9": "--chrono is given with --cell rnn; expected --cell gru or lstm",
        "--forget-bias nan": "--forget-bias is nan",
        "--forget-bias inf": "--forget-bias is inf",
        "--chrono 0": "--chrono is 0; expected an integer from 1",
        "--batch-size 0": "--batch-size is 0; expected an integer from 1",
        "--batch-size 10000000": "with 10000000 streams of 64 steps takes about",
        "--batch-size 5000": "for each of 5000 streams; expected at least one window of 64",
        "--bptt 0": "--bptt is 0; expected an integer from 1",
        "--bptt -1": "--bptt is -1; expected an integer from 1",
        "--bptt 600": "for each of 32 streams; expected at least one window of 600, so 19,201",
        "--steps 5 --epochs 2": "--epochs and --steps are given together; expected one of --epochs, --steps, --minutes. Leave out",
        "--steps 5 --minutes 2": "--steps and --minutes are given together",
        "--steps 0": "--steps is 0; expected a finite number above 0",
        "--steps -1": "--steps is -1; expected a finite number above 0",
        "--epochs 0": "--epochs is 0",
        "--minutes 0": "--minutes is 0.0",
        "--minutes inf": "--minutes is inf",
        "--minutes nan": "--minutes is nan",
        "--eval-every 0": "--eval-every is 0",
        "--eval-tokens 1": "--eval-tokens is 1; expected a finite number of at least 2",
        "--save-every -1": "--save-every is -1.0; expected a finite number of at least 0",
        "--save-every nan": "--save-every is nan",
        "--save-every 5x": "expected steps, seconds, minutes or hours, such as 500steps, 30s, 10m, 1h or 500steps,10m.",
        "--save-every 5steps,": "--save-every is '5steps,'; expected steps, seconds, minutes or hours",
        "--save-every 5s,2m": "--save-every is '5s,2m'; expected one number of steps and one time at most, such as 500steps,10m.",
        "--save-every infs": "--save-every is 'infs'; expected steps, seconds, minutes or hours",
        "--save-every -1m": "--save-every is '-1m'; expected steps, seconds, minutes or hours",
        "--save-every 0steps": "--save-every is '0steps'; expected a whole number of steps, 1 or more.",
        "--save-every 1.5steps": "--save-every is '1.5steps'; expected a whole number of steps",
        "--patience 0": "--patience is 0; expected an integer from 1",
        "--sample-every -1": "--sample-every is -1",
        "--watch-flow -1": "--watch-flow is -1",
        "--threads 0": "--threads is 0; expected an integer from 1 to 1,024",
        "--threads 1025": "--threads is 1025",
        "--seed -1": "--seed is -1; expected an integer from 0 to 2**63 - 1",
        "--seed 9223372036854775808": "--seed is 9223372036854775808",
        "--device meta": "--device is 'meta', which cannot be used here",
        "--device cuda:99": "--device is 'cuda:99', which cannot be used here",
        "--device quantum": "--device is 'quantum', which cannot be used here",
        "--lr 0": "--lr is 0.0; expected a finite number above 0",
        "--lr nan": "--lr is nan",
        "--lr -1": "--lr is -1.0",
        "--momentum 0.5": "--momentum is given with --optimizer adam; expected sgd or rmsprop",
        "--optimizer sgd --momentum 1": "--momentum is 1.0; expected a number in [0, 1)",
        "--weight-decay -1": "--weight-decay is -1.0",
        "--warmup -1": "--warmup is -1",
        "--decay 0": "--decay is 0.0; expected a factor in (0, 1]",
        "--decay 1.5": "--decay is 1.5",
        "--decay-after -1": "--decay-after is -1",
        "--clip -1": "--clip is -1.0",
        "--clip nan": "--clip is nan",
        "--clip-value -1": "--clip-value is -1.0",
        "--clip-step inf": "--clip-step is inf",
        "--omega 1": "--omega is given with --cell gru; expected --cell rnn",
        "--cell rnn --omega -1": "--omega is -1.0",
        "--split 0.5,0.6,0.1": "--split is 0.5,0.6,0.1; expected three shares",
        "--split 0,0.5,0.5": "--split is 0,0.5,0.5; expected three shares",
        "--split nan,0,1": "--split is nan,0,1; expected three shares",
        "--vocab-size 0": "--vocab-size is 0; expected an integer from 1",
        "--vocab-size 1": "no symbol is left",
        "--min-count 0": "--min-count is 0",
        "--min-count 99999": "no symbol is left",
        "--level byte --min-count 2": "do not apply at level byte",
        "--level byte --vocab-size 9": "do not apply at level byte",
        "--level bpe --vocab-size 256": "--vocab-size is 256 at level bpe; expected 257",
        "--encoding hex": "--encoding is 'hex', which is no text encoding",
        "--encoding utf-99": "--encoding is 'utf-99', which is no text encoding",
        "--valid book.txt --split 0.8,0.1,0.1": "--split and --valid are given together",
    }.items()
)

METHODS = "".join(
    f"train text book.txt --gradient {spec} | {words}\n"
    for spec, words in {
        "rtl": "'rtl' names no gradient method; expected one of full, truncated",
        "sliding": "the gradient method sliding is given without lags; expected sliding:OPTION=VALUE,…, such as sliding:lags=16",
        "sliding:lag=3": "'lag' is no option of sliding",
        "sliding:lags": "'lags' has no value",
        "sliding:lags=x": "lags of the gradient method sliding is 'x'; expected an integer",
        "sliding:lags=0": "lags is 0; expected an integer from 1",
        "sliding:lags=1,lags=2": "'lags' is given twice",
        "rtrl:x": "the gradient method is 'rtrl:x', but 'x' is no option of rtrl; it has none. Such as: rtrl",
        "truncated:k1=5,k2=2": "k2",
        "checkpointed:budget=lots": "budget",
        "uoro:seed=-1": "seed of the gradient method uoro is -1; expected an integer from 0 to 2**63 - 1",
        "full:clip_adjoint=1 --clip-step 1": "expected the clip in one of them",
        "rtrl --clip-step 1": "which sends no gradient back through time to clip",
    }.items()
)

PLACES = """
train text                              | no text is named; expected one file or more
train text missing.txt                  | missing.txt cannot be read (No such file or directory); expected a text file
train text /dev/null                    | /dev/null is a device; expected a file, a folder, a pipe, or -
train text empty                        | empty is empty; expected text
train text folder                       | folder is a folder without a file; expected text files in it
train text one                          | the training text has only the symbol 'a' at level char; expected at least two
train text short                        | the training text has 3 symbols
train text bad                          | bad is not utf-8: byte 2 is 0xff (invalid start byte); expected utf-8 throughout
train text broken.gz                    | broken.gz cannot be unpacked
train text book.txt --valid missing.txt | missing.txt cannot be read
train text book.txt --test empty        | empty is empty; expected text
train text book.txt --out book.txt      | book.txt is there already; expected a new folder. Go on with --resume
train text book.txt --out folder        | folder is there already; expected a new folder
train text book.txt --out book.txt --overwrite | book.txt is there and is no run folder
train text book.txt --out book.txt/run  | expected to read and write there
train text book.txt --out busy          | busy.preparing is there already, and stands in the way of the run
train text book.txt --from nowhere      | nowhere is no run folder: it has no config.json
train text book.txt --from RUN --hidden 9 | --hidden is 9 but the weights that --from names have 6
train text book.txt --from RUN --level word | --level is word but the weights that --from names have char
train text book.txt --from RUN --config good.toml | --config and --from are given together
train text book.txt --config missing.toml | missing.toml cannot be read (No such file or directory); expected a TOML file
train text book.txt --config bad.toml   | bad.toml is not TOML
train text book.txt --config name.toml  | name.toml has 'hiden', which is no option; expected perhaps 'hidden'
train text book.txt --config type.toml  | type.toml cannot be used: Expected `int`, got `str`
train text --config good.toml           | no text is named
train text book.txt --config zero.toml  | hidden in zero.toml is 0; expected an integer from 1 to 1,000,000
train text book.txt --config zero.toml --hidden -1 | --hidden is -1; expected an integer from 1
train text book.txt --config zero.toml --hidden 5 --cell rnn | chrono in zero.toml is given with --cell rnn; expected --cell gru
train text book.txt --config both.toml  | activation = relu in both.toml is given with cell = lstm in both.toml; expected cell = rnn in both.toml
train text --resume                     | --resume is given without --out; expected the run folder to go on with
train text --resume --out nowhere       | nowhere is no run folder
train text --resume --out RUN --hidden 7 | --hidden is 7 but the run was begun with 6; expected the same to go on. Leave it out
train text --resume --out RUN --level word | --level is word but the run was begun with char
train text --resume --out RUN --tied --hidden 7 --lr 1 | --hidden is 7 but the run was begun with 6, --tied is on but the run was begun with off; expected
train text --resume --out RUN --tied    | Leave it out, or begin another run. These may be others: --lr, --momentum, --weight-decay, --schedule
train text --resume --out RUN --seed 1  | --seed is 1 but the run was begun with 0
train text --resume --out RUN other.txt | FILE is other.txt but the run was begun with
train text --resume --out RUN --overwrite | --resume and --overwrite are given together
train text --resume --out RUN --lr nan  | --lr is nan
sample nowhere                          | nowhere is no run folder: it has no config.json; expected one that 'throughtime train' made
sample RUN --prompt ''                  | the prompt is empty; expected at least one symbol
sample RUN --prompt 'the Zoo'           | the prompt has 'Z', which the model's vocabulary of 21 symbols does not know
sample RUN --length 0                   | --length is 0; expected an integer from 1
sample RUN --length -5                  | --length is -5
sample RUN --count 0                    | --count is 0; expected an integer from 1
sample RUN --temperature nan            | temperature is nan; expected a finite number
sample RUN --temperature inf            | temperature is inf
sample RUN --temperature 1e-300         | --temperature is 1e-300; expected 0, or 0.001 or more
sample RUN --temperature -1             | temperature is -1.0
sample RUN --top-k 0                    | --top-k is 0; expected an integer from 1
sample RUN --seed -1                    | --seed is -1; expected an integer from 0 to 2**63 - 1
sample RUN --device quantum             | --device is 'quantum', which cannot be used here
sample RUN --threads 0                  | --threads is 0; expected an integer from 1 to 1,024
evaluate nowhere                        | nowhere is no run folder
evaluate RUN --data missing.txt         | missing.txt cannot be read (No such file
evaluate RUN --data empty               | empty is empty; expected text
evaluate RUN --data book.txt --section test | --data and --section are given together; expected one text
evaluate RUN --data book.txt --encoding hex | --encoding is 'hex', which is no text encoding
evaluate RUN --data a                   | the text to evaluate has 1 symbol; expected at least 2
evaluate RUN --streams 0                | --streams is 0; expected an integer from 1
evaluate RUN --streams 1000000000       | --streams is 1,000,000,000 and the text has 151 symbols; expected 150 streams at most
evaluate RUN --threads 0                | --threads is 0; expected an integer from 1 to 1,024
evaluate RUN --device quantum           | --device is 'quantum', which cannot be used here
export nowhere                          | nowhere is no run folder
export RUN --to book.txt                | book.txt is there already; expected a new file. Remove it, or name another
export RUN --to .                       | . is there already; expected a new file
export RUN --to missing/model.onnx      | missing is no folder; expected one to write model.onnx to
flow nowhere                            | nowhere is no run folder
flow RUN --data missing.txt             | missing.txt cannot be read (No such file
flow RUN --data a                       | a has 1 symbols; expected at least 2, to predict one
flow RUN --html book.txt                | book.txt is there already; expected a new file
flow RUN --html missing/page.html       | missing is no folder; expected one to write page.html to
flow RUN --steps 0                      | --steps is 0; expected an integer from 1 to 100,000
export RUN --to model.foo               | --to is model.foo; expected a name that ends in .onnx, the format that is written. Name it model.onnx
export RUN --to model                   | --to is model; expected a name that ends in .onnx
flow RUN --streams 0                    | --streams is 0; expected an integer from 1
flow RUN --threads 0                    | --threads is 0; expected an integer from 1 to 1,024
flow RUN --device quantum               | --device is 'quantum', which cannot be used here
runs nowhere                            | nowhere is no folder; expected one with runs in it
runs folder                             | folder has no run in it; expected folders that 'throughtime train' made
runs book.txt                           | book.txt is no folder
compare-gradients                       | a run or --task says what to compare on, and neither is given
compare-gradients RUN --task copy       | and both are given; expected one of them
compare-gradients nowhere               | nowhere is no run folder
compare-gradients RUN --length 5000     | steps; expected 5,000 or more for --length 5000. Lower --length
compare-gradients --task cpoy           | --task is 'cpoy'; expected copy, adding, delayed-addition, temporal-order or text. Perhaps 'copy'?
compare-gradients --task copy --methods foo | 'foo' names no gradient method; expected one of full
compare-gradients --task copy --methods | --methods is given without a value
compare-gradients --task copy --draws 1 | --draws is 1; expected an integer from 2
compare-gradients --task copy --minutes 0 | --minutes is 0.0; expected a finite number above 0
compare-gradients --task temporal-order --length 5 | length is 5; expected at least 10
compare-gradients --task copy --hidden 0 | --hidden is 0; expected an integer from 1
compare-gradients --task copy --seed -1 | --seed is -1
compare-gradients --task copy --picture book.txt | book.txt is there already; expected a new file
"""

ROWS = [
    tuple(part.strip() for part in line.split(" | "))
    for table in (VERBS, FLAGS, NUMBERS, METHODS, PLACES)
    for line in table.strip().splitlines()
]


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """What the rows name; no row may change any of it."""
    folder = tmp_path_factory.mktemp("things")
    for name, raw in {
        "book.txt": TEXT.encode(),
        "empty": b"",
        "one": b"a" * 99,
        "short": b"abc",
        "a": b"t",
        "bad": b"ab\xffcd" * 99,
        "broken.gz": gzip.compress(TEXT.encode())[:-9],
        "bad.toml": b"= 3",
        "name.toml": b"hiden = 3\n",
        "type.toml": b'[network]\nhidden = "wide"\n',
        "zero.toml": b"hidden = 0\nchrono = 3\n",
        "both.toml": b'activation = "relu"\ncell = "lstm"\n',
        "good.toml": b"[network]\nhidden = 5\n",
    }.items():
        (folder / name).write_bytes(raw)
    (folder / "folder").mkdir()
    (folder / "busy.preparing").mkdir()
    return folder


def everything(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_table_is_long():
    assert len(ROWS) >= 200
    assert len({row[0] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("typed", "words"), ROWS, ids=[row[0] for row in ROWS])
def test_one_sentence(typed, words, things, trained, monkeypatch, capsys):
    monkeypatch.chdir(things)
    before, run_before = everything(things), everything(trained)
    names = sorted(things.iterdir())
    assert main([str(trained) if word == "RUN" else word for word in shlex.split(typed)]) == 2
    output, error = capsys.readouterr()
    assert words in error
    assert error.startswith("throughtime: ")
    assert error.count("\n") == 1
    assert "Traceback" not in output + error
    assert (everything(things), everything(trained), sorted(things.iterdir())) == (before, run_before, names)


@pytest.mark.parametrize("spoil", ["cut", "empty", "text"])
@pytest.mark.parametrize("file", ["config.json", "vocabulary.json", "model.safetensors", "tokens/corpus.json", "tokens/test.bin"])
def test_a_damaged_run(file, spoil, trained, tmp_path, capsys):
    for path in trained.rglob("*"):
        target = tmp_path / "run" / path.relative_to(trained)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            target.write_bytes(path.read_bytes())
    raw = (tmp_path / "run" / file).read_bytes()
    (tmp_path / "run" / file).write_bytes({"cut": raw[:-3], "empty": b"", "text": b"to be or not to be"}[spoil])
    assert main(["evaluate", "run"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("throughtime: ")
    assert error.count("\n") == 1


def test_memory_that_runs_out_meanwhile_tells_the_plan(tmp_path, capsys, monkeypatch):
    from throughtime.training import _loop

    def too_large(*_: object, **__: object):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
        )

    monkeypatch.setattr(_loop, "step", too_large)
    sizes = "--hidden 32 --embedding 8 --batch-size 16 --bptt 32".split()
    assert main(["train", "text", "book.txt", "--out", "full", *sizes]) == 2
    error = capsys.readouterr().err
    V = len(set((tmp_path / "book.txt").read_text())) + 1  # and the unknown
    weights = V * 8 + 3 * 32 * (8 + 32 + 2) + V * 32 + V
    window = 16 * 32 * (32 * (2 * 3 + 3) + 2 * V)
    expected = f"the memory is full; training {weights:,} weights with 16 streams of 32 steps takes about {(16 * weights + 4 * window) / 2**30:.2f}"
    assert expected in error
    assert "Lower --hidden, --layers, --batch-size or --bptt; --gradient checkpointed:budget=64MB keeps less" in error


def test_an_influence_matrix_that_is_too_large_is_refused_before_there_is_a_folder(tmp_path, capsys):
    assert main(["train", "text", "book.txt", "--out", "matrix", "--gradient", "rtrl", "--hidden", "4000"]) == 2
    error = capsys.readouterr().err
    assert "by rtrl, whose influence matrix alone needs" in error
    assert "--gradient uoro" in error
    assert not (tmp_path / "matrix").exists()


def test_a_folder_that_may_not_be_written(tmp_path, capsys):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    assert main(["train", "text", "book.txt", *SMALL, "--out", "run"]) == 2
    assert "expected to read and write there" in capsys.readouterr().err


def test_what_a_number_may_look_like(capsys, tmp_path):
    assert main(["train", "text", "book.txt", "--print-config", "--hidden", "1e3", "--steps", "10_000", "--batch_size=8"]) == 0
    printed = capsys.readouterr().out
    assert "hidden = 1000\n" in printed
    assert "steps = 10000\n" in printed
    assert "batch_size = 8\n" in printed
    assert not (tmp_path / "runs").exists()
    assert json.dumps("book.txt") in printed
