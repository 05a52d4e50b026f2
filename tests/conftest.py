"""Settings of every test: eight devices made of the processor, no silent broadcasting between ranks.

The tests compile much and compute little. So the compiler works with little effort, and what it has compiled once is
kept in a cache. With JAX_DISABLE_MOST_OPTIMIZATIONS=0 it works as it does for users.
"""

import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1" and version("jax").startswith("0.10."):
    # A quarter of the time of compilation; later versions know neither option, and are faster without.
    os.environ["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0")  # each its own cache: its entries are not written atomically
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "jax" / WORKER)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module", autouse=True)
def programs_of_this_module() -> Iterator[None]:
    """Drops compiled programs after the last test of a module.

    Each maps memory some ten times, and a process that maps more than 65,530 times (Linux) crashes.
    """
    yield
    jax.clear_caches()
