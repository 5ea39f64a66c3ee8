"""neuralhydrology's introduction: ``nh-run train --config-file 1_basin.yml``, rainfall to discharge by an LSTM over a year of days."""

from pathlib import Path

from ._program import Program


def command(sources: Path, folder: Path) -> list[str]:
    ours = {
        "run_dir": folder,
        "data_dir": (sources / "test/test_data/camels_us").resolve(),
        **{f"{part}_basin_file": sources / "examples/01-Introduction/1_basin.txt" for part in ("train", "validation", "test")},
        "train_start_date": "01/01/2001",
        "train_end_date": "31/12/2001",
        **{f"{part}_start_date": "01/01/2002" for part in ("validation", "test")},
        **{f"{part}_end_date": "31/12/2002" for part in ("validation", "test")},
        "device": "cpu",
        "num_workers": 0,
        "seed": 1,
    }
    theirs = (sources / "examples/01-Introduction/1_basin.yml").read_text("utf-8").splitlines()
    kept = [line for line in theirs if line.split(":")[0] not in ours]
    (folder / "1_basin.yml").write_text("\n".join([*kept, *(f"{key}: {value}" for key, value in ours.items())]), "utf-8")
    script = sources / "neuralhydrology/nh_run.py"
    return [str(script), "train", "--config-file", str(folder / "1_basin.yml")]


PROGRAM = Program(
    title="neuralhydrology, cudalstm 20, T 365",
    repository="neuralhydrology/neuralhydrology",
    commit="76d0850, the package 1.13.0",
    packages=("neuralhydrology==1.13.0",),
    differs="one year of training instead of nine: the data that lie in its tests; no data workers, no GPU",
    command=command,
)
