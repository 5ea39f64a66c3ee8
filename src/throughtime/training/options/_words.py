"""How several values are typed as one word."""

from ..flag import Flag


def shares(word: str) -> tuple[float, float, float]:
    """Three numbers with commas between; ValueError otherwise."""
    first, second, third = map(float, word.split(","))
    return first, second, third


COLUMNS = Flag("COL[,COL]", read=lambda word: tuple(word.split(",")), show=",".join, wanted="names of columns, with commas between")
NAMES = Flag("NAME[,NAME]", "all of them", read=lambda word: tuple(word.split(",")), show=",".join, wanted="names, with commas between")
SPLIT = Flag(
    "TRAIN,VALID,TEST",
    read=shares,
    show=lambda shares: ",".join(f"{share:g}" for share in shares),
    wanted="three shares that add up to 1, with commas between",
    rare=True,
)
