"""The server: it listens on an address of this machine until Ctrl-C."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from thinking import progress
from thinking.errors import UserError
from thinking.experiment.interruption import Interrupted

if TYPE_CHECKING:
    import uvicorn

_GRACE_SECONDS = 2
_MAX_CONNECTIONS = 100


def serve(host: str, port: int, artifacts: Path) -> None:
    """Serve until a signal ends it.

    Args:
        host: the address to listen on.
        port: 0 for a free one.
        artifacts: the folder of all runs; it may not exist yet.

    Raises:
        UserError: the extra `serve` is not installed, or the address cannot be had.
        Interrupted: a signal ended it.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError:
        raise UserError("serve needs starlette and uvicorn; install them: pip install 'thinking[serve]'") from None
    listening = _listen(host, port)
    server = make_server(host, artifacts)
    # In a thread it leaves signals alone, which `catch_signals` handles in this one.
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="server")
    preparation = threading.Thread(target=_prepare, daemon=True, name="preparation")
    preparation.start()
    shown = f"[{host}]" if ":" in host else host
    progress.log(f"serving on http://{shown}:{listening.getsockname()[1]}/ (Ctrl-C ends it)")
    thread.start()
    try:
        thread.join()
    except Interrupted as stop:
        server.should_exit = True
        thread.join()
        raise Interrupted(stop.signal_number, "the server has ended") from None
    finally:
        listening.close()
        preparation.join()  # a process that ends while a thread imports JAX is aborted


def make_server(host: str, artifacts: Path) -> uvicorn.Server:
    """The server of `serve`; its method `run` takes the sockets to listen on.

    Args:
        host: the address of the sockets.
        artifacts: the folder of all runs.
    """
    import uvicorn

    from thinking.serving.app import make_app
    from thinking.serving.guard import MAX_HEADERS

    config = uvicorn.Config(
        make_app(artifacts, host),
        log_level="error",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        http="h11",
        limit_concurrency=_MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEADERS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port}: allowed are 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except socket.gaierror as error:
        raise UserError(f"--host {host}: no such address ({error.strerror}); leave it out for this machine") from None
    except UnicodeError:
        raise UserError(f"--host {host[:100]}: no such address; leave it out for this machine") from None
    except OSError as error:
        hint = "give another --port, or leave --host out"
        raise UserError(f"--host {host} --port {port}: {os.strerror(error.errno)}; {hint}") from None


def _prepare() -> None:
    """Import JAX, so that the first question need not wait for that."""
    from thinking.experiment import device

    device.prepare_device()
