"""Presets and example commands. Free of JAX."""

from thinking.experiment import Preset
from thinking.recipes.arithmetic.config import (
    Config,
    DataConfig,
    EvalConfig,
    ModelConfig,
    RLConfig,
    SearchConfig,
    SFTConfig,
    SFTOptimizerConfig,
)
from thinking.recipes.groups import CurriculumConfig

ONE_DIGIT = ("add:1", "subtract:1", "multiply:1", "divide:1")
LONGER = ("add:2", "subtract:2", "divide:2", "add:3", "subtract:3", "multiply:2", "add:4", "subtract:4")
NO_RL = RLConfig(algorithm="none")

WORD_PROBLEMS = Config(
    styles=("chain_of_thought", "direct"),
    data=DataConfig(sources=("words", "add:3", "subtract:3", "multiply:2", "divide:2")),
    sft=SFTConfig(num_steps=5000, optimizer=SFTOptimizerConfig(schedule_steps=5000, final_fraction=0.01)),
    rl=NO_RL,
    eval=EvalConfig(sources=("words", "add:3", "subtract:3", "multiply:2", "divide:2")),
)
SELF_CORRECTION = Config(
    styles=("self_correction", "chain_of_thought"),
    data=DataConfig(sources=("words", "add:3", "subtract:3"), error_fraction=0.2, row_length=192),
    sft=SFTConfig(num_steps=3000, batch_size=24),
    rl=NO_RL,
    eval=EvalConfig(injected_errors=True),
)
LENGTH_GENERALIZATION = Config(
    data=DataConfig(
        sources=("add:10x10:10000", *(f"add:{digits}:{180 * digits}" for digits in range(1, 11))),
        verbal_fraction=0.0,
        reverse_digits=True,
        row_length=384,
    ),
    model=ModelConfig(width=96, num_heads=2, gated=False, positions="digit"),
    sft=SFTConfig(
        num_steps=1600,
        batch_size=8,
        optimizer=SFTOptimizerConfig(schedule_steps=1600, final_fraction=0.01, weight_decay=0.01),
    ),
    rl=NO_RL,
    eval=EvalConfig(sources=("add:10", "add:10x10", "add:20", "add:20x20", "add:30x30", "add:40x40"), num_problems=500),
)
SUBTASKS = Config(
    styles=("subtasks",),
    data=DataConfig(
        sources=(
            *(f"add:{digits}:{200 * digits}" for digits in range(1, 9)),
            *("multiply:1:1000", "multiply:2:8000", "multiply:3:5000", "multiply:4:12000"),
        ),
        verbal_fraction=0.0,
        reverse_digits=True,
        row_length=192,
    ),
    model=ModelConfig(num_layers=3),
    sft=SFTConfig(
        num_steps=4800, batch_size=16, optimizer=SFTOptimizerConfig(schedule_steps=4800, final_fraction=0.01)
    ),
    rl=NO_RL,
    eval=EvalConfig(sources=("multiply:4x4",), num_problems=256),
)
QUICK = Config(
    data=DataConfig(sources=("add:1", "add:2", "add:3"), verbal_fraction=0.25),
    sft=SFTConfig(num_steps=350, batch_size=16, optimizer=SFTOptimizerConfig(learning_rate=0.005, schedule_steps=350)),
    rl=NO_RL,
    eval=EvalConfig(sources=("add:2", "add:3"), num_problems=500),
)
SMOKE = Config(
    data=DataConfig(sources=("add:1", "subtract:1"), num_problems=50),
    model=ModelConfig(width=16, num_heads=2, num_layers=1),
    sft=SFTConfig(num_steps=4, batch_size=4),
    rl=RLConfig(sources=("add:1",), num_updates=2, num_prompts=4, num_sampled_prompts=6, num_generations=2),
    eval=EvalConfig(sources=("add:2",), num_problems=20),
)

PRESETS = {
    "default": Preset(
        Config(search=SearchConfig(sources=("words",))),
        "small-number problems: chains, GRPO and search; 8 minutes on a core",
    ),
    "ppo": Preset(
        Config(rl=RLConfig(algorithm="ppo", num_updates=300, entropy_weight=0.3, entropy_ceiling=0.08)),
        "the same with PPO, without search",
    ),
    "reinforce": Preset(
        Config(rl=RLConfig(algorithm="reinforce", num_updates=1200, num_prompts=16, num_sampled_prompts=32)),
        "the same with REINFORCE, without search",
    ),
    "word_problems": Preset(WORD_PROBLEMS, "long supervised training, with and without a chain of thought; no rewards"),
    "curriculum": Preset(
        Config(
            data=DataConfig(sources=ONE_DIGIT + LONGER),
            curriculum=CurriculumConfig(enabled=True),
            sft=SFTConfig(num_steps=3000),
            rl=NO_RL,
            eval=EvalConfig(sources=LONGER, num_problems=200),
        ),
        "a curriculum of twelve operations and lengths",
    ),
    "self_correction": Preset(SELF_CORRECTION, "chains that correct their own wrong steps, and plain chains"),
    "length_generalization": Preset(
        LENGTH_GENERALIZATION, "sums of up to 40 digits, learned from sums of up to 10; 3 minutes"
    ),
    "subtasks": Preset(SUBTASKS, "products of 4 digits, each sub-task solved in a context of its own"),
    "quick": Preset(QUICK, "sums of up to 3 digits, by supervised training; less than a minute on two cores"),
    "smoke": Preset(SMOKE, "a few steps of a tiny model, to see that everything runs"),
}
EXAMPLES = (
    "./run_manual.sh local tasks/arithmetic.py --preset quick",
    "./run_manual.sh local tasks/arithmetic.py --chat",
    "./run_manual.sh local tasks/arithmetic.py --chat --answer.method verifier --answer.num-samples 16",
    "./run_manual.sh local tasks/arithmetic.py --preset word_problems",
    "./run_manual.sh local tasks/arithmetic.py --rl.algorithm expert_iteration",
)
