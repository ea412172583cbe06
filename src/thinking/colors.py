"""All colors: of lines in plots, and of text on a terminal."""

# Okabe and Ito, "Color Universal Design" (2008), without the yellow that white paper swallows.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""What the color-blind tell apart."""
GREY = "#999999"
"""Of thresholds and other references."""
PALE = "#dddddd"
"""Of what lies behind."""

# Styles of Rich, readable on a dark ground and on a light one, and in part without colors.
PROMPT = "bold"
THOUGHT = "cyan"
ANSWER = "bold green"
WRONG = "bold red"
MARK = "dim"
LATENT_THOUGHTS = ("cyan", "magenta", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_yellow", "bright_blue")
"""Of thoughts that have numbers instead of words; none is that of an answer."""


def line_color(index: int) -> str:
    """The color of a plot's line; they come again after seven."""
    return PALETTE[index % len(PALETTE)]
