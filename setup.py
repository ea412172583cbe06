"""The rest is in pyproject.toml, which cannot say that a package lies outside of `src`."""

from setuptools import find_packages, setup

# A wheel holds the task files too, for the command `thinking`. Here they stay in `tasks`, to be read and edited.
setup(packages=[*find_packages("src"), "thinking.tasks"], package_dir={"": "src", "thinking.tasks": "tasks"})
