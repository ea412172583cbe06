"""Run a task that saves after every chunk: `python -m thinking.benchmarks.frequent_saves FILE FLAGS...`.

Else a short training is saved at the end of its stages alone, and no kill would meet a save amid a stage.
"""

import os
import runpy
import sys

from thinking.experiment import checkpoint

if __name__ == "__main__":
    checkpoint.MIN_SECONDS_BETWEEN_SAVES, checkpoint.MAX_TIME_FRACTION = 0.0, 1e9
    del sys.argv[0]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")
