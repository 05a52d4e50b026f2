"""A fresh process that starts to train: how long until its first step is done, and how much memory it takes.

    python -m benchmarks.first_step jax|torch CONFIG STEPS

CONFIG is JSON, all of it. Prints JSON: seconds of `import`, `build` (data on the device, model,
parameters, optimizer) and `step` (the first one, compilation included), and `peak_memory` after STEPS more: bytes of
the device, or of the process where the device is the processor. The corpus is there before the clock starts: reading it
needs neither JAX nor PyTorch, and is the same for both.
"""

import importlib
import json
import resource
import sys
import time

from cmath_jax.config import from_dict
from cmath_jax.data.load import load_corpus
from cmath_jax.training import compiler


def main() -> None:
    compiler.set_flags()
    framework, config_json, steps = sys.argv[1:]
    config = from_dict(json.loads(config_json))
    corpus = load_corpus(config.dataset, simulation=config.data.simulation)
    times = [time.perf_counter()]
    module = importlib.import_module(f"benchmarks.side_{framework}")
    times.append(time.perf_counter())
    side = module.Side(config, corpus)
    times.append(time.perf_counter())
    side.advance(1)
    times.append(time.perf_counter())
    for _ in range(int(steps)):
        side.advance(1)
    names = ("import", "build", "step")
    seconds = {name: after - before for name, before, after in zip(names, times, times[1:], strict=False)}
    print(json.dumps(seconds | {"peak_memory": side.device_peak() or process_peak()}))


def process_peak() -> int:
    """Bytes of memory that this process has held at most."""
    macos = sys.platform == "darwin"  # counts bytes where Linux counts kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if macos else 2**10)


if __name__ == "__main__":
    main()
