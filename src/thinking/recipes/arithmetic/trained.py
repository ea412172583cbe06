"""A trained reasoner as a value: what is exported of a run, and what answers problems."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from thinking.environments.arithmetic.parsing import parse_problem
from thinking.experiment.cards import CardTexts
from thinking.generation.completions import make_streamer
from thinking.generation.sampling import Sampling
from thinking.networks.decoder import Decoder
from thinking.reasoning.search.subtasks import make_solver
from thinking.recipes.arithmetic.config import Config
from thinking.recipes.arithmetic.digit_positions import NUM_COORDINATES, locate
from thinking.recipes.arithmetic.evaluation import MAX_CONTEXTS, MAX_DEPTH
from thinking.recipes.arithmetic.model import build_decoder
from thinking.recipes.arithmetic.rows import VOCABULARY, encode_prompt
from thinking.text.vocabulary import END, Vocabulary
from thinking.types import Params

_MAX_NEW_TOKENS = 512
_MAX_PROMPT = 128
"""Maximum tokens of a prompt, to which all are padded, so that one program is compiled."""

CARD = CardTexts(
    summary="A small decoder that answers problems of arithmetic: it writes a thought first, then the answer.",
    data="Worked problems that the program makes itself and, where `rl.algorithm` in `config.json` names one, the "
    "rewards of a verifier. No text of people. `styles` names the style of thoughts: `chain_of_thought`; `subtasks`, "
    "each solved in a context of its own; or `self_correction`, in which wrong steps are retracted. The sources are "
    "`data.sources` in `config.json`: `words` are sums and differences of numbers up to 100, and products and "
    "quotients of numbers up to 10; `OPERATION:DIGITS` are larger ones. A share of "
    "`data.verbal_fraction` is asked in words, the rest in symbols.",
    limits="The table says what it can do: where it is far below 100 %, most answers are wrong, though it was trained "
    "on such problems. Of other operations, more digits, brackets and decimals it knows nothing, and answers all the "
    "same.",
    usage='print(model.answer("57+8"), model.complete("57+8"))',
)
"""What the model card says."""


class Reasoner(NamedTuple):
    """A trained decoder.

    Attributes:
        config: of its training.
        model: the decoder's pure functions.
        params: its parameters.
    """

    config: Config
    model: Decoder
    params: Params

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of its tokens."""
        return VOCABULARY

    def complete(self, problem: str) -> str:
        """What the model writes about a problem as `57+8`: a thought and the answer, with their special tokens.

        Raises:
            ValueError: it is no problem, or its prompt has more than 128 tokens; the message says why.
        """
        prompt = encode_prompt(parse_problem(problem), 0, self.config.data.reverse_digits)
        if len(prompt) > _MAX_PROMPT:
            raise ValueError(f"that is a question of {len(prompt)} tokens; ask one of at most {_MAX_PROMPT}")
        if self.config.styles[0] == "subtasks":
            solve = make_solver(self.model, max_depth=MAX_DEPTH, max_contexts=MAX_CONTEXTS, batch_size=1)
            (solution,) = solve(self.params, jax.random.key(0), [prompt])
            return VOCABULARY.decode(solution.trace.completion)
        stream = _make_stream(self.model, self.config.model.positions == "digit")
        chunks = stream(self.params, jax.random.key(0), prompt)  # greedy: the key is unused
        return VOCABULARY.decode([token for chunk in chunks for token in chunk])

    def answer(self, problem: str) -> str:
        """The answer to a problem, the most significant digit first; empty if the model wrote none.

        Raises:
            ValueError: as `complete`.
        """
        found = re.search(r"<answer>([^<]*)<end>$", self.complete(problem))
        answer = found[1] if found else ""
        if self.config.data.reverse_digits:
            return re.sub("[0-9]+", lambda digits: digits[0][::-1], answer)
        return answer


def select(config: Config) -> Config:
    """The config of the one model that is exported: of the first style, after post-training."""
    return dataclasses.replace(config, styles=config.styles[:1], chat=False)


def describe_params(config: Config) -> Params:
    """Shapes and types of the parameters."""
    return jax.eval_shape(build_decoder(config.model).init, jax.random.key(0))


def read_params(config: Config, folder: Path) -> Params:
    """The parameters of a finished run.

    Raises:
        RunError: the checkpoint is missing, damaged, or does not fit.
    """
    from thinking.experiment.checkpoint import read_part  # Orbax takes a second to import

    config = select(config)
    algorithm = config.rl.algorithm
    stage = config.styles[0] if algorithm == "none" else algorithm
    return read_part(folder / "checkpoints" / stage, describe_params(config), ".train_state.params")


def build(config: Config, params: Params) -> Reasoner:
    """The trained model."""
    return Reasoner(config, build_decoder(config.model), params)


@functools.lru_cache(maxsize=8)
def _make_stream(decoder: Decoder, by_place: bool) -> Callable[..., Iterator[list[int]]]:
    """Greedy completions in one chunk, compiled once for a decoder."""
    options = {"locate": locate, "num_coordinates": NUM_COORDINATES} if by_place else {}
    return make_streamer(
        decoder,
        max_prompt_tokens=_MAX_PROMPT,
        max_new_tokens=_MAX_NEW_TOKENS,
        chunk_size=_MAX_NEW_TOKENS,
        sampling=Sampling(temperature=0.0),
        stop_tokens=(END,),
        **options,
    )
