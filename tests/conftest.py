"""Settings of every test: eight devices made of the processor, no silent broadcasting between ranks.

The tests compile much and compute little. So the compiler works with little effort, and what it has compiled once is
kept in a cache.
"""

import os
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0")  # each its own cache: its entries are not written atomically
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "jax" / WORKER)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
