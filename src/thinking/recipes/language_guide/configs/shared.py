"""Groups of flags that several tasks of the language guide share."""

import dataclasses
from pathlib import Path

from thinking.errors import name_flags
from thinking.experiment import option
from thinking.experiment.run_folders import find_latest
from thinking.text.addresses import check_no_secrets


@dataclasses.dataclass(frozen=True)
class ServerConfig:
    """A server of the OpenAI protocol; its key comes from the environment."""

    base_url: str | None = option(
        None, "address, such as http://localhost:8000/v1; None: that of OPENAI_BASE_URL, or OpenAI's own"
    )
    max_requests: int | None = option(None, "HTTP requests sent at most; None: no limit", minimum=1, maximum=10**9)

    def validate(self) -> None:
        """Raises UserError for an address that contains a secret."""
        with name_flags(base_url="--base-url"):
            check_no_secrets(self.base_url)


@dataclasses.dataclass(frozen=True)
class WriterConfig:
    """A language model that writes."""

    model: str | None = option(None, "model that writes: its name, or the folder of one of Hugging Face")
    temperature: float | None = option(
        0.0, "sampling temperature of a server; None: the model's own, as some allow no other", minimum=0, maximum=2
    )


@dataclasses.dataclass(frozen=True)
class EmbedderConfig:
    """A sentence embedder."""

    folder: Path | None = option(None, "folder of MiniLM's files; None: the installed ones, or fetched")


def find_input(artifacts: Path, task: str) -> Path:
    """The folder of a task's latest run, or where its runs would be."""
    return find_latest(artifacts / task) or artifacts / task
