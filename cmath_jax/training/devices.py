"""Where the steps run: on one device or many, of one process or many; one run, or many runs as one program.

The step itself does not know. Every engine takes lists with one entry per run ("member"), and gives such lists back:

- `Jit`: one member by `jit`; rows of its batches are placed over a mesh of devices, and the compiler adds what these
  have to tell each other.
- `Pmap`: one member by `pmap`: the same, with losses and gradients summed up by the step.
- `Population`: many members by `vmap`, dealt out to the devices, which have nothing to say to each other.

Arrays are placed without a word between processes: each gives what its own devices hold.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cmath_jax.config import ParallelConfig
from cmath_jax.data.batches import Batch
from cmath_jax.errors import InputError

ROWS = "rows"
MEMBERS = "members"

Step = Callable[..., Any]


class Compiled:
    """A function that is compiled for each shape of plan, once.

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

    def __call__(self, first: Any, plan: Batch, *rest: Any) -> Any:
        return self.executable(first, plan, *rest)(first, plan, *rest)

    def executable(self, first: Any, plan: Batch, *rest: Any) -> Any:
        """Of the shapes of the arguments, which may be abstract."""
        shape = plan.utterance_rl.shape
        if shape not in self._executables:
            start = time.monotonic()
            self._executables[shape] = self._function.lower(first, plan, *rest).compile()
            self.seconds += time.monotonic() - start
        return self._executables[shape]


@dataclass(frozen=True)
class Engine(ABC):
    """Compiles steps for its devices, and takes states and plans there and back."""

    devices: tuple[jax.Device, ...]
    members: int = 1

    axis = ROWS  # of the mesh

    @property
    def row_multiple(self) -> int:
        """The rows of a batch are a multiple of this."""
        return len(self.devices)

    def share(self, rows: int) -> slice:
        """Those of so many rows of a batch that lie on devices of this process."""
        mine = [i for i, device in enumerate(self.devices) if device.process_index == jax.process_index()]
        each = rows // len(self.devices)
        return slice(mine[0] * each, (mine[-1] + 1) * each)

    @cached_property
    def everywhere(self) -> NamedSharding:
        """The same on every device."""
        return self._sharding()

    def _sharding(self, *axes: str | None) -> NamedSharding:
        return NamedSharding(Mesh(np.array(self.devices), (self.axis,)), PartitionSpec(*axes))

    @abstractmethod
    def compile_train(self, steps: Step, step: Step) -> Compiled:
        """`steps` as `step.train_steps`, `step` as `step.train_step`. The state that it is given is used up."""

    @abstractmethod
    def compile_eval(self, step: Step) -> Compiled:
        """`step` as `step.eval_step`; one plan for all members."""

    @abstractmethod
    def put(self, trees: Sequence[Any]) -> Any:
        """A tree per member (states, parameters, settings), on the devices."""

    def put_shared(self, tree: Any) -> Any:
        """The same for all members, whole on every device."""
        return place(tree, self.everywhere)

    @abstractmethod
    def put_steps(self, plans: Sequence[Batch]) -> Any:
        """A training plan of [s, r, l] per member."""

    @abstractmethod
    def put_plan(self, plan: Batch) -> Any:
        """An evaluation plan of [r, l] for all members."""

    @abstractmethod
    def get(self, tree: Any) -> list[Any]:
        """The tree of each member, in memory of the host that no later step can touch."""

    @abstractmethod
    def get_rows(self, x: jax.Array) -> np.ndarray:
        """[members, rows, ...] of a result of evaluation, in the order of the plan."""

    def get_metrics(self, metrics: Any) -> list[dict[str, np.ndarray]]:
        """The scalars of training steps, each [s], for each member."""
        return [jax.device_get(metrics)]


@dataclass(frozen=True)
class Jit(Engine):
    """See the module."""

    def compile_train(self, steps: Step, step: Step) -> Compiled:
        over_rows, everywhere = self._sharding(None, ROWS), self.everywhere
        return Compiled(
            jax.jit(
                partial(steps, step=partial(step, axis=None)),
                donate_argnums=0,
                in_shardings=(everywhere, over_rows, everywhere, everywhere, everywhere, everywhere),
                out_shardings=everywhere,
            )
        )

    def compile_eval(self, step: Step) -> Compiled:
        shardings = (self.everywhere, self._sharding(ROWS), self.everywhere)
        return Compiled(jax.jit(step, in_shardings=shardings, out_shardings=self.everywhere))

    def put(self, trees: Sequence[Any]) -> Any:
        (tree,) = trees
        return self.put_shared(tree)

    def put_steps(self, plans: Sequence[Batch]) -> Any:
        (plan,) = plans
        return place(plan, self._sharding(None, ROWS))

    def put_plan(self, plan: Batch) -> Any:
        return place(plan, self._sharding(ROWS))

    def get(self, tree: Any) -> list[Any]:
        return [host_copy(tree)]

    def get_rows(self, x: jax.Array) -> np.ndarray:
        return np.asarray(x)[None]


@dataclass(frozen=True)
class Pmap(Engine):
    """See the module. Every array has a leading axis: one entry per device."""

    @property
    def _split(self) -> NamedSharding:
        return self._sharding(ROWS)

    def compile_train(self, steps: Step, step: Step) -> Compiled:
        steps = partial(steps, step=partial(step, axis=ROWS))
        return Compiled(jax.pmap(steps, ROWS, out_axes=(0, None), donate_argnums=0, devices=list(self.devices)))

    def compile_eval(self, step: Step) -> Compiled:
        def gathered(*arguments: Any) -> Any:
            return jax.lax.all_gather(step(*arguments), ROWS)

        return Compiled(jax.pmap(gathered, ROWS, out_axes=None, devices=list(self.devices)))

    def put(self, trees: Sequence[Any]) -> Any:
        (tree,) = trees
        return self.put_shared(tree)

    def put_shared(self, tree: Any) -> Any:
        n = len(self.devices)
        return place(jax.tree.map(lambda x: np.broadcast_to(x, (n, *np.shape(x))), tree), self._split)

    def put_steps(self, plans: Sequence[Batch]) -> Any:
        (plan,) = plans
        n = len(self.devices)
        by_device = jax.tree.map(lambda x: x.reshape(x.shape[0], n, x.shape[1] // n, *x.shape[2:]).swapaxes(0, 1), plan)
        return place(by_device, self._split)

    def put_plan(self, plan: Batch) -> Any:
        n = len(self.devices)
        return place(jax.tree.map(lambda x: x.reshape(n, x.shape[0] // n, *x.shape[1:]), plan), self._split)

    def get(self, tree: Any) -> list[Any]:
        return [host_copy(jax.tree.map(lambda x: np.asarray(x.addressable_data(0))[0], tree))]

    def get_rows(self, x: jax.Array) -> np.ndarray:
        host = np.asarray(x.addressable_data(0))
        return host.reshape(1, -1, *host.shape[2:])


@dataclass(frozen=True)
class Population(Engine):
    """See the module. Where the members do not divide among the devices, the last one is there more than once."""

    axis = MEMBERS

    @property
    def row_multiple(self) -> int:
        return 1

    def share(self, rows: int) -> slice:
        return slice(rows)  # a population stays in one process

    @property
    def _spread(self) -> NamedSharding:
        return self._sharding(MEMBERS)

    def compile_train(self, steps: Step, step: Step) -> Compiled:
        each, same = PartitionSpec(MEMBERS), PartitionSpec()
        many = jax.shard_map(
            jax.vmap(partial(steps, step=partial(step, axis=None)), in_axes=(0, 0, None, 0, None, None)),
            mesh=self._spread.mesh,
            in_specs=(each, each, same, each, same, same),
            out_specs=each,
            check_vma=False,
        )
        shardings = (self._spread, self._spread, self.everywhere, self._spread, self.everywhere, self.everywhere)
        return Compiled(jax.jit(many, donate_argnums=0, in_shardings=shardings, out_shardings=self._spread))

    def compile_eval(self, step: Step) -> Compiled:
        each, same = PartitionSpec(MEMBERS), PartitionSpec()
        many = jax.shard_map(
            jax.vmap(step, in_axes=(0, None, None)),
            mesh=self._spread.mesh,
            in_specs=(each, same, same),
            out_specs=each,
            check_vma=False,
        )
        shardings = (self._spread, self.everywhere, self.everywhere)
        return Compiled(jax.jit(many, in_shardings=shardings, out_shardings=self._spread))

    def put(self, trees: Sequence[Any]) -> Any:
        missing = -len(trees) % len(self.devices)
        trees = [*trees, *[trees[-1]] * missing]
        return place(jax.tree.map(lambda *x: np.stack(x), *trees), self._spread)

    def put_steps(self, plans: Sequence[Batch]) -> Any:
        return self.put(plans)

    def put_plan(self, plan: Batch) -> Any:
        return self.put_shared(plan)

    def get(self, tree: Any) -> list[Any]:
        host = jax.tree.map(np.asarray, tree)
        return [host_copy(jax.tree.map(lambda x, i=i: x[i], host)) for i in range(self.members)]

    def get_rows(self, x: jax.Array) -> np.ndarray:
        return np.asarray(x)[: self.members]

    def get_metrics(self, metrics: Any) -> list[dict[str, np.ndarray]]:
        host = jax.device_get(metrics)
        return [{name: value_ms[i] for name, value_ms in host.items()} for i in range(self.members)]


def place(tree: Any, sharding: NamedSharding) -> Any:
    """Arrays of the host on the devices of all processes; each process has the whole and gives its devices' part."""

    def put(x: Any) -> jax.Array:
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    with jax.transfer_guard("allow"):  # this transfer is meant
        return jax.tree.map(put, tree)


def host_copy(tree: Any) -> Any:
    """A copy of arrays in the memory of the host, which no later step can touch."""
    return jax.tree.map(lambda x: np.array(x, copy=True), tree)


def make_engine(config: ParallelConfig, batch_size: int, members: int = 1) -> Engine:
    """The engine that the config asks for; one run takes no more devices than a batch has conversations.

    Every process takes part with equally many of its devices.

    Raises:
      InputError: when more devices are asked for than there are, or a number that the processes cannot share; and for
        a population over several processes.
    """
    processes, devices = jax.process_count(), _from_each_process(jax.devices())
    if config.devices > len(devices):
        raise InputError(f"parallel.devices={config.devices}, but there are {len(devices)} ({devices[0].platform})")
    if config.devices % processes:
        raise InputError(f"parallel.devices={config.devices} cannot be shared evenly by {processes} processes")
    most = config.devices or len(devices)
    if members > 1:
        if processes > 1:
            raise InputError(
                f"parallel.population={config.population}: {processes} processes train one run after the other; to "
                "train the runs of a sweep at once, give each process its part with --shard"
            )
        return Population(devices[: min(most, members)], members)
    wanted = config.devices or max(min(most, batch_size) // processes, 1) * processes
    pmapped = config.engine == "pmap" or (config.engine == "auto" and wanted > 1)
    return (Pmap if pmapped else Jit)(_from_each_process(devices, wanted // processes))


def _from_each_process(devices: Sequence[jax.Device], count: int | None = None) -> tuple[jax.Device, ...]:
    """So many of each, or as many as the one with the fewest has."""
    processes = sorted({device.process_index for device in devices})
    by_process = [[device for device in devices if device.process_index == process] for process in processes]
    count = count or min(map(len, by_process))
    return tuple(device for mine in by_process for device in mine[:count])
