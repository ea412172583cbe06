"""The embedder that made prepared vectors, for further sentences."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from thinking.text.embedders import Embedder, hashing_embedder, minilm_embedder
from thinking.text.openai_protocol import openai_embedder
from thinking.text.prepared_data import PreparedData
from thinking.text.server import Server

MINILM = "all-MiniLM-L6-v2"


@contextlib.contextmanager
def open_matching_embedder(data: PreparedData, folder: Path | None, answers_folder: Path) -> Iterator[Embedder]:
    """Open the embedder of prepared data by its name.

    Args:
        data: prepared data.
        folder: of the embedder's weights; None: the installed ones.
        answers_folder: where a server's answers are cached.

    Raises:
        ValueError: if the available embedder is another one.
        UserError: if it is not available.
    """
    dims = data.step_vectors.shape[1]
    with contextlib.ExitStack() as stack:
        if data.embedder.startswith("hashed-"):
            embedder = hashing_embedder(dims)
        elif folder is not None or data.embedder == MINILM or not data.manifest.get("server"):
            embedder = minilm_embedder(folder)
        else:
            server = stack.enter_context(Server(data.manifest["server"], answers_folder))
            embedder = openai_embedder(server, data.embedder)
        if (embedder.name, embedder.dims) != (data.embedder, dims):
            raise ValueError(
                f"folder {folder}: the data were embedded by {data.embedder} in {dims} dimensions, and here is "
                f"{embedder.name} of {embedder.dims}; give the folder of the former, or prepare the data anew"
            )
        yield embedder
