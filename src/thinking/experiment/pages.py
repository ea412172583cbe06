"""Self-contained HTML pages from the templates of this package; all values are escaped."""

import functools
from typing import Any

import jinja2
from markupsafe import Markup

from thinking.errors import escape_controls


def render_page(template: str, package: str = "thinking.experiment", **values: Any) -> bytes:
    """Render a template as UTF-8.

    Args:
        template: file name in `templates/`.
        package: whose template it is; those of this package can be included in any.
        **values: what it shows. Text is escaped, and control characters are shown as on the terminal.
    """
    return _environment(package).get_template(template).render(values).encode()


@functools.cache
def _environment(package: str) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package), jinja2.PackageLoader("thinking.experiment")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )


def _finalize(value: Any) -> Any:
    return value if isinstance(value, Markup) or not isinstance(value, str) else escape_controls(value)
