"""What XLA is told: heard by it, and beside what the user says."""

import os
import subprocess
import sys

import pytest

from cmath_jax.training import compiler

PROGRAM = """
from cmath_jax.training import compiler
compiler.set_flags()
import jax
import jax.numpy as jnp
x = jnp.ones((1000, 1000))
adam = jax.jit(lambda g, m, v: (0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g), donate_argnums=(1, 2))
print(adam.lower(x, x, x).compile().as_text().count(" fusion("))
"""


def test_two_results_in_one_pass() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XLA", "JAX_DISABLE"))}
    shown = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, text=True, capture_output=True, check=True)
    assert shown.stdout.strip() == "1", shown


@pytest.mark.parametrize("flags", ["--xla_backend_extra_options=a=b", "--xla_dump_to=x"])
def test_what_the_user_says_stays(flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", flags)
    compiler.set_flags()
    assert os.environ["XLA_FLAGS"].startswith(flags)
    assert os.environ["XLA_FLAGS"].count(compiler.OPTIONS) == 1
    compiler.set_flags()
    assert os.environ["XLA_FLAGS"].count(compiler.OPTIONS) == 1
