"""Replies: pages, JSON, and refusals, which are a small page or one line of JSON."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from thinking.errors import to_line
from thinking.experiment.pages import render_page

_TITLES = {403: "Not allowed", 404: "Not found", 409: "Not possible", 500: "Error", 503: "Busy"}


class Refusal(Exception):
    """A request that is refused.

    Args:
        status: of HTTP.
        reason: one line for the person who asked.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def make_page(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page of this package's templates."""
    return HTMLResponse(render_page(template, "thinking.serving", **values), status)


def make_json(value: Mapping[str, Any], status: int = 200) -> Response:
    """JSON in one line; a number that is not finite is a programming error."""
    content = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Response(content, status, media_type="application/json")


def make_refusal(scope: Scope, status: int, reason: str) -> Response:
    """JSON for the interface, a small page for all else."""
    reason = to_line(reason)[:500]
    if scope["method"] == "POST" or scope["path"].startswith("/api/"):
        return make_json({"error": reason}, status)
    return make_page("error.html", status=status, title=_TITLES.get(status, "Refused"), reason=reason)


def refuse(request: Request, error: Refusal) -> Response:
    """The response to a request that is refused, as a handler of Starlette."""
    return make_refusal(request.scope, error.status, error.reason)
