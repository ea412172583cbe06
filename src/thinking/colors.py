"""The colors of plots and of text on a terminal."""

# Okabe and Ito, "Color Universal Design" (2008), without yellow, which is hard to see on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Colors that color-blind people can distinguish."""
GREY = "#999999"
"""Thresholds and other reference lines."""
PALE = "#dddddd"
"""Background."""

# Styles of Rich, readable on dark and light backgrounds.
PROMPT = "bold"
THOUGHT = "cyan"
ANSWER = "bold green"
WRONG = "bold red"
SECONDARY = "dim"
NUMBERED_THOUGHTS = (
    "cyan",
    "magenta",
    "yellow",
    "blue",
    "bright_cyan",
    "bright_magenta",
    "bright_yellow",
    "bright_blue",
)
"""Styles of numbered thought tokens; none is the style of an answer."""


def line_color(index: int) -> str:
    """The color of a plot's line; the palette repeats after seven."""
    return PALETTE[index % len(PALETTE)]


def line_style(index: int) -> str:
    """The style of a plot's line, which differs where the color is the same."""
    return ("-", "-.", ":")[index // len(PALETTE) % 3]
