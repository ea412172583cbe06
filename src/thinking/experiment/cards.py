"""Model cards: `README.md` of an export."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from thinking.errors import to_line
from thinking.experiment.tables import format_rows


class CardTexts(NamedTuple):
    """What a card says of all models of a recipe.

    Attributes:
        summary: what they do, in a line.
        data: what they were trained on.
        limits: what they cannot do.
        usage: Python that uses `model`, which was loaded.
    """

    summary: str
    data: str
    limits: str
    usage: str


_TEMPLATE = """\
---
library_name: thinking
license: apache-2.0
tags:
- jax
- flax
- thinking
- {{ task }}
---

# {{ name }}

{{ texts.summary }}

It is a model of {{ num_parameters }} parameters, stored as {{ dtype }}, of the task `{{ task }}` of thinking, a
laboratory for small thinking models in JAX.

## Data

{{ texts.data }}

## How it was made

```bash
{{ train }}
{{ export }}
```

{{ versions }}

## Figures

Measured on this file, that is after rounding to {{ dtype }}, by

```bash
{{ measure }}
```

| {{ table.headers | join(" | ") }} |
|{% for _ in table.headers %}---|{% endfor %}
{% for row in table.rows -%}
| {{ row | join(" | ") }} |
{% endfor %}
## Limits

{{ texts.limits }}

## Use

```python
from thinking import load

model = load("{{ name }}")  # or a folder
{{ texts.usage }}
```
"""


def render_card(
    name: str,
    task: str,
    texts: CardTexts,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str] | None,
    commands: Mapping[str, str],
    facts: Mapping[str, Any],
) -> str:
    """Render a card as Markdown with a YAML front matter.

    Args:
        name: of the model.
        task: whose model it is.
        texts: of its recipe.
        rows: what was measured, as rows of results.
        columns: their headers, see `format_rows`.
        commands: `train`, `export` and `measure`.
        facts: `num_parameters`, `dtype` and `versions` by package.
    """
    known = [f"{package} {version}" for package, version in facts["versions"].items() if version]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return environment.from_string(_TEMPLATE).render(
        name=to_line(name),
        task=task,
        texts=texts,
        table=format_rows(rows, columns),
        num_parameters=f"{facts['num_parameters']:,}",
        dtype=facts["dtype"],
        versions=f"With {', '.join(known)}.",
        **{key: to_line(command) for key, command in commands.items()},
    )


def describe_target(to: str) -> str:
    """The name of a model by where it goes: the last part of a folder or of a repository."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(to.rstrip("/")).name).strip("-.") or "model"
