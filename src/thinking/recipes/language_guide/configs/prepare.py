"""Config of lm_data_prepare: texts and embedder."""

import dataclasses
from pathlib import Path
from typing import Literal

from thinking.errors import UserError
from thinking.experiment import Preset, RunConfig, group, option
from thinking.recipes.language_guide.configs.shared import EmbedderConfig, ServerConfig, WriterConfig

MODELS = ("openai", "huggingface")
SOURCES = ("bundled", *MODELS)


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """The source of texts."""

    source: str = option("bundled", f"{', '.join(SOURCES)}, or a file of JSON Lines")
    goals: Path | None = option(None, "file of goals for a model, one a line; None: the bundled ones")
    num_texts: int = option(12, "bundled texts for each goal of training, in random wordings", minimum=1, maximum=10**5)
    num_wordings: int = option(6, "ways to word a step of the bundled texts", minimum=1, maximum=1000)
    held_out_fraction: float = option(
        0.2, "fraction of the goals held out of training, unless the file names splits itself", minimum=0, below=1
    )

    def validate(self) -> None:
        """Raises UserError for an unknown source, and for goals without a model."""
        if self.source not in SOURCES and not Path(self.source).is_file():
            raise UserError(f"--source {self.source}: no such file; allowed are {', '.join(SOURCES)}, or a file")
        if self.goals is not None and self.source not in MODELS:
            raise UserError(
                f"--goals {self.goals}: goals are for models that write texts; add --source openai or huggingface"
            )


@dataclasses.dataclass(frozen=True)
class SentenceEmbedderConfig(EmbedderConfig):
    """The sentence embedder."""

    kind: Literal["minilm", "openai", "hashed"] = option(
        "minilm", "all-MiniLM-L6-v2 in JAX, a server, or hashed counts of words and character trigrams"
    )
    model: str = option("text-embedding-3-small", "embedding model of the server")


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Prepare texts and their embeddings for the language guide."""

    # Nothing is trained here: data are always prepared anew, with cached answers.
    seed: int = option(0, "seed of wordings and of the goals that are held out", affects_weights=False)
    text: TextConfig = group(
        TextConfig, "texts to learn from: bundled, written by a model, or from a file", affects_weights=False
    )
    writer: WriterConfig = group(WriterConfig, "the model that writes texts", affects_weights=False)
    server: ServerConfig = group(
        ServerConfig, "the server of --text.source openai and --embedder.kind openai", affects_weights=False
    )
    embedder: SentenceEmbedderConfig = group(
        SentenceEmbedderConfig, "the model that embeds sentences", affects_weights=False
    )

    def validate(self) -> None:
        """Raises UserError for a missing model."""
        if self.text.source in MODELS and not self.writer.model:
            raise UserError(
                f"--text.source {self.text.source}: a model is needed to write texts; name it with --writer.model"
            )


PRESETS = {
    "default": Preset(Config(), "the bundled texts as in docs/results/planning_in_meaning.md, embedded by MiniLM"),
    "quick": Preset(
        Config(text=TextConfig(num_texts=4, num_wordings=3)), "a third of the texts; less than a minute on two cores"
    ),
    "smoke": Preset(
        Config(text=TextConfig(num_texts=1, num_wordings=2), embedder=SentenceEmbedderConfig(kind="hashed")),
        "few texts and an embedder without weights, in seconds",
    ),
}
EXAMPLES = (
    "./run_manual.sh local tasks/lm_data_prepare.py",
    "./run_manual.sh local tasks/lm_data_prepare.py --text.source texts.jsonl --text.held-out-fraction 0.1",
    "./run_manual.sh local tasks/lm_data_prepare.py --text.source openai --writer.model NAME --server.base-url http://localhost:8000/v1",
)
