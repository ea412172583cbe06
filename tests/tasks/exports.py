"""Exporting the model of a run of a test, and loading it again."""

import dataclasses

from thinking import load
from thinking.pretrained.exporting import make_files, prepare_export, write_folder


def load_export(task, run, folder, dtype="float32", **settings):
    """The model of a finished run, with other settings, as it is read from the files of its export."""
    config = dataclasses.replace(run.config, **settings)
    export = prepare_export(task, config, run.folder, {"versions": {}}, dtype)
    write_folder(make_files(export, "card", "summary"), folder)
    return load(folder)
