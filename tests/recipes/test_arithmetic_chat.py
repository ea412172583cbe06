"""Chat with sub-tasks: it prints their tree, then the answer, or the reason why there is none."""

import jax
from tests.kernels.quick import jit

from thinking.environments.arithmetic.problems import Problem
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.reasoning.search.subtasks import SOLVED, TOO_DEEP, Context, Solution
from thinking.recipes.arithmetic import chat
from thinking.recipes.arithmetic.rows import VOCABULARY, encode_prompt
from thinking.recipes.arithmetic.searches import SearchModel


def encode(text):
    return VOCABULARY.encode(text)


def run_chat_with_solution(solution, monkeypatch, capsys):
    """The output lines for 12*34, with a stub solver that returns the solution."""

    def make_stub_solver(model, **limits):
        def solve(params, key, prompts):
            assert prompts == [encode_prompt(Problem("multiply", (12, 34)))]
            return [solution]

        return solve

    monkeypatch.setattr(chat, "make_solver", make_stub_solver)
    chat.run_chat(SearchModel(None, None, 16), "greedy", 1, None, use_subtasks=True, lines=["12 * 34", "quit"])
    return capsys.readouterr().out.splitlines()


def test_subtask_tree_is_printed_before_the_answer(monkeypatch, capsys):
    subtasks = [
        Context(tuple(encode_prompt(Problem(*args))), answer=encode(text))
        for args, text in ((("multiply", (12, 4)), "48"), (("multiply", (12, 30)), "360"), (("add", (48, 360)), "408"))
    ]
    root = Context(
        tuple(encode_prompt(Problem("multiply", (12, 34)))), subtasks=subtasks, answer=encode("408"), height=2
    )
    lines = run_chat_with_solution(Solution(encode("408"), SOLVED, 4, 2, 97, root), monkeypatch, capsys)
    expected_tree = ["12*34= 408", "  12*4= 48", "  12*30= 360", "  48+360= 408"]
    assert lines == [*expected_tree, "12*34=408", "4 contexts, 2 deep, 97 tokens written"]


def test_unsolved_problem_prints_the_reason(monkeypatch, capsys):
    root = Context(tuple(encode_prompt(Problem("multiply", (12, 34)))))
    lines = run_chat_with_solution(Solution([], TOO_DEEP, 13, 12, 400, root), monkeypatch, capsys)
    assert lines == ["12*34= ?", "12*34=too deep", "13 contexts, 12 deep, 400 tokens written"]


def test_chat_solves_subtasks_with_a_decoder(capsys):
    block = BlockConfig(8, 2)
    model = decoder(vocab_size=len(VOCABULARY), context_length=64, block=block, num_layers=1, value_head=True)
    params = jit(model.init)(jax.random.key(0))
    chat.run_chat(SearchModel(model, params, 16), "greedy", 1, jax.random.key(0), use_subtasks=True, lines=["7+8", "x"])
    output = capsys.readouterr().out
    assert output.startswith("7+8= ")
    assert "tokens written" in output
    assert "'x' is no arithmetic" in output
