"""A conversation in which thoughts ask for sub-tasks: their tree is shown, then the answer, or why there is none."""

import jax
from tests.kernels.quick import jit

from thinking.environments.arithmetic.problems import Problem
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.reasoning.search.subtasks import SOLVED, TOO_DEEP, Context, Solution
from thinking.recipes.arithmetic import chat
from thinking.recipes.arithmetic.rows import VOCABULARY, encode_prompt
from thinking.recipes.arithmetic.searches import SearchModel


def encoded(text):
    return VOCABULARY.encode(text)


def asked_and_answered(solution, monkeypatch, capsys):
    """What is said to 12*34, where the model finds this solution."""

    def solver(model, **limits):
        def ask(params, key, prompts):
            assert prompts == [encode_prompt(Problem("multiply", (12, 34)))]
            return [solution]

        return ask

    monkeypatch.setattr(chat, "make_solver", solver)
    chat.run_chat(SearchModel(None, None, 16), "greedy", 1, None, use_subtasks=True, lines=["12 * 34", "quit"])
    return capsys.readouterr().out.splitlines()


def test_the_tree_of_sub_tasks_is_shown_before_the_answer(monkeypatch, capsys):
    parts = [
        Context(tuple(encode_prompt(Problem(*part))), answer=encoded(said))
        for part, said in ((("multiply", (12, 4)), "48"), (("multiply", (12, 30)), "360"), (("add", (48, 360)), "408"))
    ]
    root = Context(tuple(encode_prompt(Problem("multiply", (12, 34)))), subtasks=parts, answer=encoded("408"), height=2)
    said = asked_and_answered(Solution(encoded("408"), SOLVED, 4, 2, 97, root), monkeypatch, capsys)
    tree = ["12*34= 408", "  12*4= 48", "  12*30= 360", "  48+360= 408"]
    assert said == [*tree, "12*34=408", "4 contexts, 2 deep, 97 tokens written"]


def test_what_is_not_solved_says_why(monkeypatch, capsys):
    root = Context(tuple(encode_prompt(Problem("multiply", (12, 34)))))
    said = asked_and_answered(Solution([], TOO_DEEP, 13, 12, 400, root), monkeypatch, capsys)
    assert said == ["12*34= ?", "12*34=too deep", "13 contexts, 12 deep, 400 tokens written"]


def test_a_decoder_is_asked_one_context_at_a_time(capsys):
    block = BlockConfig(8, 2)
    model = decoder(vocab_size=len(VOCABULARY), context_length=64, block=block, num_layers=1, value_head=True)
    params = jit(model.init)(jax.random.key(0))
    chat.run_chat(SearchModel(model, params, 16), "greedy", 1, jax.random.key(0), use_subtasks=True, lines=["7+8", "x"])
    said = capsys.readouterr().out
    assert said.startswith("7+8= ")
    assert "tokens written" in said
    assert "'x' is no arithmetic" in said
