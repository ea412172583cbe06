"""The embedder that made prepared vectors, for sentences that come later."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from thinking.text.embedders import Embedder, hashed, minilm
from thinking.text.openai_protocol import openai_embedder
from thinking.text.prepared import Prepared
from thinking.text.server import Server

MINILM = "all-MiniLM-L6-v2"


@contextlib.contextmanager
def same_embedder(data: Prepared, folder: Path | None, answers: Path) -> Iterator[Embedder]:
    """What made the vectors of prepared data, by its name.

    Args:
        data: as prepared.
        folder: of the embedder's weights, where they are not those that are installed.
        answers: the folder where a server's answers are kept.

    Raises:
        ValueError: if what is to be had here is another one.
        UserError: if it cannot be had.
    """
    dims = data.step_vectors.shape[1]
    with contextlib.ExitStack() as stack:
        if data.embedder.startswith("hashed-"):
            embedder = hashed(dims)
        elif folder is not None or data.embedder == MINILM or not data.manifest.get("server"):
            embedder = minilm(folder)
        else:
            server = stack.enter_context(Server(data.manifest["server"], answers))
            embedder = openai_embedder(server, data.embedder)
        if (embedder.name, embedder.dims) != (data.embedder, dims):
            raise ValueError(
                f"folder {folder}: the data were embedded by {data.embedder} in {dims} dimensions, and here is "
                f"{embedder.name} of {embedder.dims}; give the folder of the former, or prepare the data anew"
            )
        yield embedder
