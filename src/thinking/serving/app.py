"""The application: pages of runs and models, and the interface of the playground."""

import asyncio
import functools
import importlib.resources
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from thinking.errors import RunError
from thinking.experiment.pages import render_page
from thinking.files import parse_json
from thinking.pretrained.export_record import CARD_FILE, list_shipped, read_record
from thinking.serving.folders import (
    check_contained,
    list_run_files,
    list_run_folders,
    list_shown_runs,
    render_contained_report,
)
from thinking.serving.guard import MAX_BODY, Guard
from thinking.serving.model_pool import DEMOS, Model, Models, find_demo, find_model
from thinking.serving.responses import Refusal, make_json, make_page, make_refusal, refuse

REFRESH_SECONDS = 20
"""Seconds after which the browser reloads the page of a run in progress."""
BODY_SECONDS = 10
"""Seconds within which a request's body must arrive."""
REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""A report has its style and pictures in itself, and no script."""
FILE_POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "frame-ancestors 'none'"
)
"""A page that a task wrote may have scripts in itself; they see nothing of this server."""
_STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def make_app(artifacts: Path, host: str = "127.0.0.1") -> ASGIApp:
    """The application.

    Args:
        artifacts: the folder of all runs.
        host: the address that the server listens on.
    """
    pages, models = anyio.CapacityLimiter(4), Models(artifacts)

    async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await anyio.to_thread.run_sync(function, *arguments, limiter=pages)
        except RunError as error:
            raise Refusal(409, str(error)) from error

    def page(function: Callable[[Request, Path], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await in_thread(function, request, artifacts)

        return endpoint

    async def play(request: Request) -> Response:
        model = await in_thread(find_model, request.path_params["name"], artifacts)
        shown = await models.use(model, lambda demo, opened: demo.describe(opened))
        return make_page(f"{DEMOS[model.task]}.html", model=model, **shown)

    async def ask(request: Request) -> Response:
        model = await in_thread(find_model, request.path_params["name"], artifacts)
        question = await in_thread(_parse, await _read_body(request), model)
        return make_json(await models.use(model, lambda demo, opened: demo.answer(opened, question)))

    routes = [
        Route("/", page(_show_index)),
        Route("/runs/{task}/{run}/report.html", page(_show_report)),
        Route("/runs/{task}/{run}/{file:path}", page(_show_file)),
        Route("/models/{name}", page(_show_card)),
        Route("/play/{name:path}", play),
        Route("/api/{name:path}", ask, methods=["POST"]),
        Route("/static/{name}", page(_show_static)),
        Route("/favicon.ico", page(_show_icon)),
    ]
    handlers = {Refusal: refuse, HTTPException: _refuse_http, Exception: _refuse_fault}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return Guard(app, host)


def _parse(body: bytes, model: Model) -> Any:
    try:
        return parse_json(body, find_demo(model.task).SCHEMA)
    except ValueError as error:
        raise Refusal(400, str(error)) from error


def _show_index(request: Request, artifacts: Path) -> Response:
    runs = list_shown_runs(artifacts)
    response = make_page(
        "index.html",
        artifacts=str(artifacts),
        runs=runs,
        demos=DEMOS,
        models=[
            {"name": name, "summary": (record := read_record(folder))["summary"], "can_play": record["task"] in DEMOS}
            for name, folder in list_shipped().items()
        ],
    )
    return _refresh_while(any(run.state == "running" for run in runs), response)


def _find_run_folder(request: Request, artifacts: Path) -> Path:
    name = "{task}/{run}".format(**request.path_params)
    if folder := list_run_folders(artifacts).get(name):
        return folder
    raise Refusal(404, f"{name[:100]}: there is no such run")


def _show_report(request: Request, artifacts: Path) -> Response:
    record, content = render_contained_report(_find_run_folder(request, artifacts))
    response = HTMLResponse(content, headers={"content-security-policy": REPORT_POLICY})
    return _refresh_while(record.state == "running", response)


def _show_file(request: Request, artifacts: Path) -> Response:
    folder = _find_run_folder(request, artifacts)
    check_contained(folder)
    if file := list_run_files(folder).get(request.path_params["file"]):
        return FileResponse(file.path, media_type=file.media_type, headers={"content-security-policy": FILE_POLICY})
    raise Refusal(404, "there is no such picture or page of this run")


def _show_card(request: Request, artifacts: Path) -> Response:
    folder = list_shipped().get(request.path_params["name"])
    if folder is None:
        raise Refusal(404, f"{request.path_params['name'][:100]}: there is no such model")
    text = (folder / CARD_FILE).read_text(encoding="utf-8")
    _, _, text = text.removeprefix("---\n").rpartition("\n---\n")  # without its head for the hub
    # No HTML of the card gets through, and links to the web alone.
    card = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    can_play = read_record(folder)["task"] in DEMOS
    return make_page("card.html", name=folder.name, card=Markup(card), can_play=can_play)


def _show_static(request: Request, artifacts: Path) -> Response:
    name = request.path_params["name"]
    if name not in (files := _read_static()):
        raise Refusal(404, "there is no such file")
    return Response(files[name], media_type=_STATIC_TYPES[Path(name).suffix])


def _show_icon(request: Request, artifacts: Path) -> Response:
    """For reports, which name no icon."""
    return Response(_read_static()["icon.svg"], media_type=_STATIC_TYPES[".svg"])


@functools.cache
def _read_static() -> dict[str, bytes]:
    """Files by name. The stylesheet is that of reports, and what the pages add."""
    folder = importlib.resources.files("thinking.serving") / "static"
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    return files | {"style.css": render_page("style.css") + files["style.css"]}


async def _read_body(request: Request) -> bytes:
    """The body, if it is short and comes soon.

    Raises:
        Refusal: it is not, or does not, or the client left.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise Refusal(413, f"the body is too long; at most {MAX_BODY} bytes are allowed")
    except TimeoutError:
        raise Refusal(408, "the body did not come in time") from None
    except ClientDisconnect:
        raise Refusal(400, "the body did not come whole") from None
    return bytes(body)


def _refresh_while(is_running: bool, response: Response) -> Response:
    if is_running:
        response.headers["refresh"] = str(REFRESH_SECONDS)
    return response


def _refuse_http(request: Request, error: HTTPException) -> Response:
    return make_refusal(request.scope, error.status_code, str(error.detail))


def _refuse_fault(request: Request, error: Exception) -> Response:
    """The response to a programming error, which the server's terminal shows: Starlette raises it again."""
    return make_refusal(request.scope, 500, "the server failed; its terminal says why")
