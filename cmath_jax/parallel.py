"""Where the step runs: on one device by `jit`, on several by `pmap` with explicit sums over them.

The step itself does not know. It is given the name of the axis to sum over, or None. Rows of a batch are dealt out
to the devices; parameters live on all of them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cmath_jax.config import ParallelConfig
from cmath_jax.data.batches import Batch
from cmath_jax.errors import InputError

AXIS = "data"


class Compiled:
    """A compiled step `(state, batch) -> result` that knows how long its compilations have taken."""

    def __init__(self, function: Callable[[Any, Batch], Any]) -> None:
        self.seconds = 0.0
        self._function = function
        self._shapes: set[tuple[int, ...]] = set()

    def __call__(self, state: Any, batch: Batch) -> Any:
        if batch.utterance_rl.shape in self._shapes:
            return self._function(state, batch)
        # A first call returns when it has compiled and handed the work to the device.
        start = time.monotonic()
        result = self._function(state, batch)
        self.seconds += time.monotonic() - start
        self._shapes.add(batch.utterance_rl.shape)
        return result


@dataclass(frozen=True)
class Engine:
    """Compiles steps for its devices, and takes states and batches there and back."""

    devices: tuple[jax.Device, ...]
    mapped: bool  # by pmap

    @property
    def _split(self) -> NamedSharding:
        return NamedSharding(Mesh(np.array(self.devices), (AXIS,)), PartitionSpec(AXIS))

    def compile_train(self, step: Callable[..., Any]) -> Compiled:
        """`step(state, batch, axis=)` returns (state, metrics). The state that it is given is used up."""
        if not self.mapped:
            return Compiled(jax.jit(partial(step, axis=None), donate_argnums=0))
        step = partial(step, axis=AXIS)
        return Compiled(jax.pmap(step, AXIS, out_axes=(0, None), donate_argnums=0, devices=list(self.devices)))

    def compile_eval(self, step: Callable[..., Any]) -> Compiled:
        """`step(params, batch)` returns rows. Nothing is donated: the parameters are needed again."""
        return Compiled(jax.pmap(step, AXIS, devices=list(self.devices)) if self.mapped else jax.jit(step))

    def put_state(self, state: Any) -> Any:
        if self.mapped:
            # With the sharding of what the compiled steps return, so that the first step is not compiled apart.
            copies = jax.tree.map(lambda x: np.broadcast_to(x, (len(self.devices), *np.shape(x))), state)
            return jax.device_put(copies, self._split)
        return jax.device_put(state, self.devices[0])

    def get_state(self, state: Any) -> Any:
        """The state in the memory of the host."""
        return host_copy(jax.tree.map(lambda x: np.asarray(x.addressable_data(0))[0], state) if self.mapped else state)

    def put_batch(self, batch: Any) -> Any:
        """Rows of the batch must be a multiple of the devices."""
        if self.mapped:
            n = len(self.devices)
            batch = jax.tree.map(lambda x: x.reshape(n, x.shape[0] // n, *x.shape[1:]), batch)
            return jax.device_put(batch, self._split)
        return jax.device_put(batch, self.devices[0])

    def get_rows(self, x: jax.Array) -> np.ndarray:
        """Rows of a result of `evaluate`, in the order of the batch."""
        host = np.asarray(x)
        return host.reshape(-1, *host.shape[2:]) if self.mapped else host


def host_copy(tree: Any) -> Any:
    """A copy of arrays in the memory of the host, which no later step can touch."""
    return jax.tree.map(lambda x: np.array(x, copy=True), tree)


def make_engine(config: ParallelConfig, batch_size: int) -> Engine:
    """The engine that the config asks for, on no more devices than a batch has conversations unless they are named.

    Raises:
      InputError: when more devices are asked for than there are.
    """
    devices = jax.local_devices()
    if config.devices > len(devices):
        raise InputError(f"parallel.devices={config.devices}, but there are {len(devices)} ({devices[0].platform})")
    wanted = 1 if config.engine == "jit" else config.devices or min(len(devices), batch_size)
    return Engine(tuple(devices[:wanted]), mapped=config.engine == "pmap" or wanted > 1)
