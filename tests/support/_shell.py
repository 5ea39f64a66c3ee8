"""A text and the flags of a run that takes a second, for tests of the command."""

TEXT = (
    "".join(f"the {a} {b} sat on the {c}.\n" for a in ("big", "old", "red") for b in ("cat", "dog", "owl") for c in ("mat", "log", "box"))
    * 4
)
SMALL = ["--hidden", "6", "--embedding", "4", "--batch-size", "4", "--bptt", "8", "--steps", "6", "--threads", "1"]
