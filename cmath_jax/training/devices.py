"""The mesh of trials x rows on which steps run: of one trial or many, one device or many, one process or many.

Trials are dealt out over the first axis and have nothing to say to each other. The rows of a batch are dealt out over
the second, whose devices add up the losses and gradients of their shares: that is all they exchange, in float32
(`step.train_step`). A step does not know the mesh. Each process holds every array whole on its host, and puts the part
of its own devices.

Axes: t trials, s steps, r rows, l slots.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cmath_jax.config import ParallelConfig
from cmath_jax.errors import InputError
from cmath_jax.training.compiler import Compiled

TRIALS, ROWS = "trials", "rows"
# How arrays lie on the mesh.
EVERYWHERE = P()  # the same on all devices
TRIAL = P(TRIALS)  # [t, ...]: states, hyper-parameters, metrics
TRIAL_STEPS = P(TRIALS, None, ROWS)  # [t, s, r, l]: the training plans of an epoch
BATCH = P(ROWS)  # [r, l]: an evaluation plan, the same for all trials
TRIAL_BATCH = P(TRIALS, ROWS)  # [t, r, l, ...]: what an evaluation gives


@dataclass(frozen=True)
class Devices:
    """The devices of a number of trials that are trained side by side.

    Attributes:
      devices: those of the mesh, one trial's rows after the other's.
      rows: over how many of them the rows of a batch are dealt out; those of a batch are a multiple of it.
      trials: how many there are. If they do not divide evenly, the last one is there more than once.
    """

    devices: tuple[jax.Device, ...]
    rows: int
    trials: int

    @cached_property
    def mesh(self) -> Mesh:
        """Returns the devices as a mesh of [trials, rows]."""
        return Mesh(np.array(self.devices).reshape(-1, self.rows), (TRIALS, ROWS))

    @property
    def trials_each(self) -> int:
        """Returns how many trials each device computes."""
        return -(-self.trials * self.rows // len(self.devices))

    @property
    def places(self) -> int:
        """Returns how many trials are computed, the repeated ones included."""
        return self.trials_each * (len(self.devices) // self.rows)

    @property
    def axis(self) -> str | None:
        """Returns the axis over which a step adds up; None where one device holds all rows of a trial."""
        return ROWS if self.rows > 1 else None

    def compile(
        self, function: Callable[..., Any], given: Sequence[P], made: Any, donate: tuple[int, ...] = ()
    ) -> Compiled:
        """Returns `function`, which is written for one trial and its share of the rows, for all trials and all devices.

        Args:
          given: how each argument lies on the mesh.
          made: how the results lie on it.
          donate: the arguments whose memory the results take.
        """
        over_trials = _over_trials(function, given, self.trials_each)
        on_mesh = jax.shard_map(over_trials, mesh=self.mesh, in_specs=tuple(given), out_specs=made, check_vma=False)
        placed = [jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), specs) for specs in (tuple(given), made)]
        return Compiled(jax.jit(on_mesh, donate_argnums=donate, in_shardings=placed[0], out_shardings=placed[1]))

    def shapes(self, tree: Any, spec: P) -> Any:
        """Returns the shapes that `put_trials` makes of a tree of each trial, or `put`, where `spec` has no trials.

        The tree, which all trials have in common, may be abstract. Nothing is put anywhere.
        """
        lead = (self.places,) if spec[:1] == (TRIALS,) else ()
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype), tree)

    def put(self, tree: Any, spec: P) -> Any:
        """Puts arrays of the host on the devices."""
        return _place(tree, NamedSharding(self.mesh, spec))

    def put_trials(self, trees: Sequence[Any], spec: P = TRIAL) -> Any:
        """Puts a tree per trial on the devices."""
        if self.places == 1:
            return self.put(jax.tree.map(lambda x: np.asarray(x)[None], trees[0]), spec)  # a copy would take memory
        repeated = [*trees, *[trees[-1]] * (self.places - len(trees))]
        return self.put(jax.tree.map(lambda *x: np.stack(x), *repeated), spec)

    def get(self, tree: Any, spec: P) -> Any:
        """Returns the arrays, for each trial once, in memory of the host that no later step can touch."""
        del spec  # the arrays know it
        with jax.transfer_guard("allow"):
            host = jax.tree.map(lambda x: np.array(_whole(x)), tree)
        return jax.tree.map(lambda x_t: x_t[: self.trials], host)

    def get_trials(self, tree: Any) -> list[Any]:
        """Returns a tree per trial, as `get` does."""
        host = self.get(tree, TRIAL)
        return [jax.tree.map(lambda x_t, t=t: np.asarray(x_t[t]), host) for t in range(self.trials)]

    def share(self, rows: int) -> slice:
        """Returns which of so many rows of a batch lie on devices of this process."""
        mine = [i % self.rows for i, device in enumerate(self.devices) if device.process_index == jax.process_index()]
        each = rows // self.rows
        return slice(min(mine) * each, (max(mine) + 1) * each)


@dataclass(frozen=True)
class PmapDevices(Devices):
    """The same for one trial, by `jax.pmap`: every array has one more axis in front, with an entry for each device."""

    def compile(
        self, function: Callable[..., Any], given: Sequence[P], made: Any, donate: tuple[int, ...] = ()
    ) -> Compiled:
        del made  # every device gives its own
        over_trials = _over_trials(function, given, 1)
        return Compiled(jax.pmap(over_trials, ROWS, donate_argnums=donate, devices=list(self.devices)))

    def shapes(self, tree: Any, spec: P) -> Any:
        def split(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            shape = list(x.shape)
            if ROWS in spec:
                shape[spec.index(ROWS)] //= self.rows
            return jax.ShapeDtypeStruct((self.rows, *shape), x.dtype)

        return jax.tree.map(split, super().shapes(tree, spec))

    def put(self, tree: Any, spec: P) -> Any:
        n = self.rows

        def split(x: Any) -> np.ndarray:
            if ROWS not in spec:
                return np.broadcast_to(x, (n, *np.shape(x)))
            axis = spec.index(ROWS)
            return np.moveaxis(x.reshape(*x.shape[:axis], n, -1, *x.shape[axis + 1 :]), axis, 0)

        return _place(jax.tree.map(split, tree), NamedSharding(Mesh(np.array(self.devices), (ROWS,)), BATCH))

    def get(self, tree: Any, spec: P) -> Any:
        def join(x: jax.Array) -> np.ndarray:
            if ROWS not in spec:
                first: np.ndarray = np.array(x.addressable_data(0))[0]
                return first
            axis = spec.index(ROWS)
            host: np.ndarray = np.moveaxis(_whole(x), 0, axis)
            return host.reshape(*host.shape[:axis], -1, *host.shape[axis + 2 :])

        with jax.transfer_guard("allow"):
            return jax.tree.map(join, tree)


def _over_trials(function: Callable[..., Any], given: Sequence[P], trials: int) -> Callable[..., Any]:
    """Returns the function for so many trials on a device: results, and arguments of trials, have an axis for them."""
    of_trials = [spec[:1] == (TRIALS,) for spec in given]
    if trials > 1:
        return jax.vmap(function, in_axes=tuple(0 if each else None for each in of_trials))

    def of_one(*arguments: Any) -> Any:
        # Without `vmap`, whose batched products are slower than plain ones.
        first = [
            jax.tree.map(lambda x_t: x_t[0], x) if each else x for x, each in zip(arguments, of_trials, strict=True)
        ]
        return jax.tree.map(lambda x: x[None], function(*first))

    return of_one


def _place(tree: Any, sharding: NamedSharding) -> Any:
    def put(x: Any) -> jax.Array:
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    with jax.transfer_guard("allow"):  # this transfer is meant
        return jax.tree.map(put, tree)


def _whole(x: jax.Array) -> np.ndarray:
    """Returns the whole array, also where other processes hold parts of it."""
    if x.is_fully_addressable:
        return np.asarray(x)
    if x.is_fully_replicated:
        return np.asarray(x.addressable_data(0))
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def host_copy(tree: Any) -> Any:
    """Returns a copy of arrays in the memory of the host, which no later step can touch."""
    return jax.tree.map(lambda x: np.array(x, copy=True), tree)


def make_devices(
    config: ParallelConfig, batch_size: int, trials: int = 1, at_hand: Sequence[jax.Device] = ()
) -> Devices:
    """Returns the devices that the config asks for, as far as so many trials with such batches can use them.

    Every process takes part with equally many of its devices.

    Args:
      at_hand: the devices to choose from; () for those of JAX.

    Raises:
      InputError: when more devices are asked for than there are, or a number that the processes cannot share.
    """
    devices = _from_each_process(at_hand or jax.devices())
    processes = len({device.process_index for device in devices})
    if config.devices > len(devices):
        raise InputError(f"parallel.devices={config.devices}, but there are {len(devices)} ({devices[0].platform})")
    if config.devices % processes:
        raise InputError(f"parallel.devices={config.devices} cannot be shared evenly by {processes} processes")
    most = config.devices or len(devices)
    # One trial takes as many as it is told, or else no more than a batch has conversations.
    most_rows = config.devices if config.devices and trials == 1 else max(batch_size, processes)
    over, rows = next(
        (over, rows)
        for over in range(min(trials, most), 0, -1)
        for rows in range(min(most // over, most_rows), 0, -1)
        if over * rows % processes == 0
    )
    used = _from_each_process(devices, over * rows // processes)
    return (PmapDevices if config.engine == "pmap" and trials == 1 else Devices)(used, rows, trials)


def _from_each_process(devices: Sequence[jax.Device], count: int | None = None) -> tuple[jax.Device, ...]:
    """Returns so many devices of each process, or as many as the one with the fewest has."""
    processes = sorted({device.process_index for device in devices})
    by_process = [[device for device in devices if device.process_index == process] for process in processes]
    count = count or min(map(len, by_process))
    return tuple(device for mine in by_process for device in mine[:count])
