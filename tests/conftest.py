"""Settings of every test: eight devices made of the processor, no silent broadcasting between ranks.

The tests compile much and compute little. So the compiler works with little effort, and what it has compiled once is
kept in a cache. With JAX_DISABLE_MOST_OPTIMIZATIONS=0 it works as it does for users.
"""

import os
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

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
