"""`thinking serve`: pages of runs and models, and a playground, on this machine. Starlette and jinja2."""
