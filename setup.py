"""The packages of the wheel, which pyproject.toml cannot name: the experiments come from a folder of another name."""

from setuptools import find_packages, setup

# Alone in a folder of their own, since that folder is put on the path for their imports of each other.
EXPERIMENTS = "cmath_jax.installed.experiments"

setup(
    packages=[*find_packages(include=["cmath_jax", "cmath_jax.*"]), EXPERIMENTS],
    package_dir={EXPERIMENTS: "experiments"},
)
