"""One folder a task: its config, data, training step, evaluation and plots, made of the packages beside this one."""
