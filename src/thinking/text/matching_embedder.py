"""The embedder that made prepared vectors, for further sentences."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from thinking.errors import UserError
from thinking.text.embedders import Embedder, hashing_embedder, minilm_embedder
from thinking.text.openai_protocol import openai_embedder
from thinking.text.openai_server import Server
from thinking.text.prepared_data import PreparedData

MINILM = "all-MiniLM-L6-v2"


@contextlib.contextmanager
def open_matching_embedder(
    data: PreparedData,
    folder: Path | None,
    open_server: Callable[[], contextlib.AbstractContextManager[Server]],
) -> Iterator[Embedder]:
    """Open the embedder of prepared data by its name.

    Args:
        data: prepared data.
        folder: of the embedder's weights; None: the installed ones.
        open_server: connects to the server that the user names. The address in the data is never used, as whoever
            wrote the data could send the user's key anywhere.

    Raises:
        ValueError: if the available embedder is another one.
        UserError: if it is not available, or the data were embedded by another server.
    """
    dims = data.step_vectors.shape[1]
    with contextlib.ExitStack() as stack:
        if data.embedder.startswith("hashed-"):
            embedder = hashing_embedder(dims)
        elif folder is not None or data.embedder == MINILM or not data.manifest.get("server"):
            embedder = minilm_embedder(folder)
        else:
            server = stack.enter_context(open_server())
            if server.url != data.manifest["server"]:
                raise UserError(
                    f"the data were embedded by the server {data.manifest['server']}, and yours is {server.url}; give "
                    "--server.base-url of the former if you trust it, or prepare the data anew"
                )
            embedder = openai_embedder(server, data.embedder)
        if (embedder.name, embedder.dims) != (data.embedder, dims):
            raise ValueError(
                f"folder {folder}: the data were embedded by {data.embedder} in {dims} dimensions, and here is "
                f"{embedder.name} of {embedder.dims}; give the folder of the former, or prepare the data anew"
            )
        yield embedder
