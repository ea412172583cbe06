"""`python -m thinking.commands` is the command `thinking`, where that is not installed."""

from thinking.commands.cli import main

if __name__ == "__main__":
    main()
