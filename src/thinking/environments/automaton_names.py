"""Names of automata, checked without NumPy or JAX. See `environments.automata`."""

NAMES = ("s3", "a5", "s5", "parity", "graph", "list")
"""Automata without a size."""


def parse_name(name: str) -> tuple[str, int | None]:
    """The kind of an automaton and its size, as `("modular", 7)` for `modular:7`; size None where the kind has none.

    Raises:
        ValueError: for an unknown name.
    """
    if name in NAMES:
        return name, None
    kind, _, size = name.partition(":")
    if kind == "modular" and size.isdecimal() and 2 <= int(size) <= 2000:
        return kind, int(size)
    if kind == "digits" and size in ("1", "2", "3"):
        return kind, int(size)
    raise ValueError(
        f"name {name}: not an automaton; give one of {', '.join(NAMES)}, modular:M with M from 2 to 2000, or "
        "digits:D with D from 1 to 3"
    )
