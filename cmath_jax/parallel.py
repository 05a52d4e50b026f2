"""Where the step runs: one run on one device, one run spread over several, or many runs as one program.

The step itself does not know. Every engine takes lists with one entry per run ("member"), and gives such lists back:

- `OneDevice`: one member, by `jit`.
- `DataParallel`: one member by `pmap`: rows of its batches are dealt out to the devices, which sum up losses and
  gradients.
- `Population`: many members by `vmap`, dealt out to the devices, which have nothing to say to each other.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
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
MEMBERS = "members"


class Compiled:
    """A step that is compiled for each shape of batch, once.

    Attributes:
      seconds: what its compilations have taken in all.
    """

    def __init__(self, function: Any) -> None:
        self.seconds = 0.0
        self._taken = 0.0
        self._function = function
        self._executables: dict[tuple[int, ...], Any] = {}

    def take_seconds(self) -> float:
        """What its compilations have taken since it was last asked."""
        seconds, self._taken = self.seconds - self._taken, self.seconds
        return seconds

    def __call__(self, first: Any, batch: Batch, *rest: Any) -> Any:
        return self.executable(first, batch, *rest)(first, batch, *rest)

    def executable(self, first: Any, batch: Batch, *rest: Any) -> Any:
        """Of the shapes of the arguments, which may be abstract."""
        shape = batch.utterance_rl.shape
        if shape not in self._executables:
            start = time.monotonic()
            self._executables[shape] = self._function.lower(first, batch, *rest).compile()
            self.seconds += time.monotonic() - start
        return self._executables[shape]


@dataclass(frozen=True)
class Engine(ABC):
    """Compiles steps for its devices, and takes states and batches there and back."""

    devices: tuple[jax.Device, ...]
    members: int = 1

    @property
    def row_multiple(self) -> int:
        """The rows of a batch are a multiple of this."""
        return 1

    @abstractmethod
    def compile_train(self, step: Callable[..., Any]) -> Compiled:
        """`step(state, batch, settings, axis=)` returns (state, metrics). The state that it is given is used up."""

    @abstractmethod
    def compile_eval(self, step: Callable[..., Any]) -> Compiled:
        """`step(params, batch)` returns rows; one batch for all members. The parameters are needed again."""

    @abstractmethod
    def put(self, trees: Sequence[Any]) -> Any:
        """A tree per member (states, parameters, settings), on the devices."""

    @abstractmethod
    def get(self, tree: Any) -> list[Any]:
        """The tree of each member, in memory of the host that no later step can touch."""

    @abstractmethod
    def put_batches(self, batches: Sequence[Batch]) -> Any:
        """A training batch per member."""

    @abstractmethod
    def put_shared(self, batch: Batch) -> Any:
        """An evaluation batch for all members."""

    @abstractmethod
    def get_rows(self, x: jax.Array) -> np.ndarray:
        """[members, rows, ...] of a result of evaluation, in the order of the batch."""

    def get_metrics(self, metrics: Any) -> list[dict[str, float]]:
        """The scalars of a training step, for each member."""
        return [{name: float(value) for name, value in jax.device_get(metrics).items()}]


@dataclass(frozen=True)
class OneDevice(Engine):
    """See the module."""

    def compile_train(self, step: Callable[..., Any]) -> Compiled:
        return Compiled(jax.jit(partial(step, axis=None), donate_argnums=0))

    def compile_eval(self, step: Callable[..., Any]) -> Compiled:
        return Compiled(jax.jit(step))

    def put(self, trees: Sequence[Any]) -> Any:
        (tree,) = trees
        return jax.device_put(tree, self.devices[0])

    def get(self, tree: Any) -> list[Any]:
        return [host_copy(tree)]

    def put_batches(self, batches: Sequence[Batch]) -> Any:
        return self.put(batches)

    def put_shared(self, batch: Batch) -> Any:
        return self.put([batch])

    def get_rows(self, x: jax.Array) -> np.ndarray:
        return np.asarray(x)[None]


@dataclass(frozen=True)
class DataParallel(Engine):
    """See the module."""

    @property
    def row_multiple(self) -> int:
        return len(self.devices)

    @property
    def _split(self) -> NamedSharding:
        return NamedSharding(Mesh(np.array(self.devices), (AXIS,)), PartitionSpec(AXIS))

    def compile_train(self, step: Callable[..., Any]) -> Compiled:
        step = partial(step, axis=AXIS)
        return Compiled(jax.pmap(step, AXIS, out_axes=(0, None), donate_argnums=0, devices=list(self.devices)))

    def compile_eval(self, step: Callable[..., Any]) -> Compiled:
        return Compiled(jax.pmap(step, AXIS, devices=list(self.devices)))

    def put(self, trees: Sequence[Any]) -> Any:
        (tree,) = trees
        # With the sharding of what the compiled steps return, so that the first step is not compiled apart.
        copies = jax.tree.map(lambda x: np.broadcast_to(x, (len(self.devices), *np.shape(x))), tree)
        return jax.device_put(copies, self._split)

    def get(self, tree: Any) -> list[Any]:
        return [host_copy(jax.tree.map(lambda x: np.asarray(x.addressable_data(0))[0], tree))]

    def put_batches(self, batches: Sequence[Batch]) -> Any:
        (batch,) = batches
        return self.put_shared(batch)

    def put_shared(self, batch: Batch) -> Any:
        n = len(self.devices)
        return jax.device_put(jax.tree.map(lambda x: x.reshape(n, x.shape[0] // n, *x.shape[1:]), batch), self._split)

    def get_rows(self, x: jax.Array) -> np.ndarray:
        host = np.asarray(x)
        return host.reshape(1, -1, *host.shape[2:])


@dataclass(frozen=True)
class Population(Engine):
    """See the module. Where the members do not divide among the devices, the last one is there more than once."""

    @property
    def _mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), (MEMBERS,))

    @property
    def _spread(self) -> NamedSharding:
        return NamedSharding(self._mesh, PartitionSpec(MEMBERS))

    @property
    def _shared(self) -> NamedSharding:
        return NamedSharding(self._mesh, PartitionSpec())

    def compile_train(self, step: Callable[..., Any]) -> Compiled:
        spread = PartitionSpec(MEMBERS)
        many = jax.shard_map(
            jax.vmap(partial(step, axis=None)), mesh=self._mesh, in_specs=spread, out_specs=spread, check_vma=False
        )
        return Compiled(jax.jit(many, donate_argnums=0, in_shardings=self._spread, out_shardings=self._spread))

    def compile_eval(self, step: Callable[..., Any]) -> Compiled:
        spread = PartitionSpec(MEMBERS)
        many = jax.shard_map(
            jax.vmap(step, in_axes=(0, None)),
            mesh=self._mesh,
            in_specs=(spread, PartitionSpec()),
            out_specs=spread,
            check_vma=False,
        )
        shardings = (self._spread, self._shared)
        return Compiled(jax.jit(many, in_shardings=shardings, out_shardings=self._spread))

    def put(self, trees: Sequence[Any]) -> Any:
        missing = -len(trees) % len(self.devices)
        trees = [*trees, *[trees[-1]] * missing]
        return jax.device_put(jax.tree.map(lambda *x: np.stack(x), *trees), self._spread)

    def get(self, tree: Any) -> list[Any]:
        host = jax.tree.map(np.asarray, tree)
        return [host_copy(jax.tree.map(lambda x, i=i: x[i], host)) for i in range(self.members)]

    def put_batches(self, batches: Sequence[Batch]) -> Any:
        return self.put(batches)

    def put_shared(self, batch: Batch) -> Any:
        return jax.device_put(batch, self._shared)

    def get_rows(self, x: jax.Array) -> np.ndarray:
        return np.asarray(x)[: self.members]

    def get_metrics(self, metrics: Any) -> list[dict[str, float]]:
        host = jax.device_get(metrics)
        return [{name: float(value[i]) for name, value in host.items()} for i in range(self.members)]


def host_copy(tree: Any) -> Any:
    """A copy of arrays in the memory of the host, which no later step can touch."""
    return jax.tree.map(lambda x: np.array(x, copy=True), tree)


def make_engine(config: ParallelConfig, batch_size: int, members: int = 1) -> Engine:
    """The engine that the config asks for; one run takes no more devices than a batch has conversations.

    Raises:
      InputError: when more devices are asked for than there are.
    """
    devices = tuple(jax.local_devices())
    if config.devices > len(devices):
        raise InputError(f"parallel.devices={config.devices}, but there are {len(devices)} ({devices[0].platform})")
    most = 1 if config.engine == "jit" else config.devices or len(devices)
    if members > 1:
        return Population(devices[: min(most, members)], members)
    wanted = 1 if config.engine == "jit" else config.devices or min(most, batch_size)
    if config.engine == "pmap" or wanted > 1:
        return DataParallel(devices[:wanted])
    return OneDevice(devices[:wanted])
