"""The server: it listens on an address of this machine until Ctrl-C."""

import socket
import threading
from pathlib import Path

from thinking import progress
from thinking.errors import UserError
from thinking.experiment.interruption import Interrupted

_GRACE_SECONDS = 2
_MAX_CONNECTIONS = 100
_MAX_HEADERS = 16 * 1024


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
        import uvicorn

        from thinking.serving.app import make_app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("uvicorn", "starlette"):
            raise
        raise UserError("serve needs starlette and uvicorn; install them: pip install 'thinking[serve]'") from None
    listening = _listen(host, port)
    config = uvicorn.Config(
        make_app(artifacts, host),
        log_level="error",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        http="h11",
        limit_concurrency=_MAX_CONNECTIONS,
        h11_max_incomplete_event_size=_MAX_HEADERS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    # In a thread it leaves signals alone, which `catch_signals` handles in this one.
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="server")
    threading.Thread(target=_prepare, daemon=True, name="preparation").start()
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


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except socket.gaierror as error:
        raise UserError(f"--host {host}: no such address ({error.strerror}); leave it out for this machine") from None
    except UnicodeError:
        raise UserError(f"--host {host[:100]}: no such address; leave it out for this machine") from None
    except OSError as error:
        hint = "give another --port, or leave --host out"
        raise UserError(f"--host {host} --port {port}: {error.strerror}; {hint}") from None


def _prepare() -> None:
    """Import JAX, so that the first question need not wait for that."""
    from thinking.experiment import device

    device.prepare_device(compile_quickly=True)
