"""Computes how fast a step of training could be on a device, at best: the roofline.

Two things bound a step: the matrix products that it consists of, against the rate of a plain product on the same
device, and the memory that it moves, against the rate of a plain copy. Both rates are measured, never quoted.

The bound is the sum of two phases (Williams et al. 2009 have one, and the larger of its two times):

    max(products / product rate, bytes of the products / copy rate)  +  bytes of the update / copy rate

Products: forward and backward, by formula; each parameter is read in both and its gradient is written. Arithmetic and
memory overlap, so the slower one counts. Update: Adam reads parameter, gradient and two moments, and writes all but the
gradient: 28 bytes per parameter, 8 more for the moving average. There is next to nothing to multiply, and it
cannot hide behind the products: a step of the next batch needs the parameters of this one, and the gradient of a
parameter is complete only when its backward pass is. (Where gradients are clipped, all of them have to be there first.)

Left out, so that the bound stays one: activations and features, which may stay in a cache; all elementwise work (norms,
softmax, GELU, dropout and its random bits); recomputation. What is above 1 in `bound / measured` is an error.

The rate of a copy depends on where the bytes lie. A copy into memory that the system has just mapped measures the
system, and one of a few megabytes the nearest cache; training does neither. So memory is reused, and the working set
is that of the state which the step updates: if that fits into a cache of the device, so does what it is compared with.
"""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from cmath_jax.config import Config
from cmath_jax.data.packing import Shape
from cmath_jax.models.options.cmath import CMATHOptions
from cmath_jax.models.precision import product_precision

FLOAT32 = 4
PRODUCT_SIZES = (1024, 2048, 4096, 8192)
LONGEST_PRODUCT = 0.05  # seconds; a device that takes longer is not asked for a larger one
REPEATS = 5
COPIES = 10  # at once, so that a fast device is not measured by the time that it takes to start one


@dataclass(frozen=True)
class Rates:
    """The speed at which a device computes and copies.

    Attributes:
      flops: FLOP/s of a plain matrix product; a multiplication and an addition are two.
      bytes: bytes/s of a plain copy, read and written.
    """

    flops: float
    bytes: float


@dataclass(frozen=True)
class Work:
    """The work that a step of training has to do at least, on one device.

    Attributes:
      products: FLOPs of the matrix products, forward and backward.
      product_bytes: parameters read forward and backward, gradients written.
      update_bytes: read and written by the optimizer and the moving average.
    """

    products: float
    product_bytes: float
    update_bytes: float

    def seconds(self, rates: Rates) -> float:
        """Returns the bound: no step on a device of these rates takes less."""
        products = max(self.products / rates.flops, self.product_bytes / rates.bytes)
        return products + self.update_bytes / rates.bytes

    def __mul__(self, runs: int) -> "Work":
        """Returns the work of so many runs side by side on one device."""
        return Work(self.products * runs, self.product_bytes * runs, self.update_bytes * runs)


@dataclass(frozen=True)
class WorkloadSizes:
    """The sizes of a step that depend on the data.

    Attributes:
      dims: m -> d_m, of all modalities of the corpus.
      shape: rows and slots of a batch on one device.
    """

    dims: Mapping[str, int]
    classes: int
    speakers: int
    shape: Shape


def training_work(config: Config, sizes: WorkloadSizes) -> Work:
    """Returns the work of a step of CMATH with the options of `config`."""
    parameters = parameter_count(config, sizes)
    average = 2 if config.optim.average else 0
    return Work(
        products=product_flops(config, sizes),
        product_bytes=3 * FLOAT32 * parameters,
        update_bytes=(7 + average) * FLOAT32 * parameters,
    )


def product_flops(config: Config, sizes: WorkloadSizes) -> float:
    """Returns the FLOPs of the matrix products of a training step, forward and backward, of full slots and empty ones.

    Backward, a product costs twice what it costs forward: one for each of its factors. The features and the one-hot
    speakers need no gradient. A row of scores is counted whole, though it holds several conversations.
    """
    model, present = config.model, config.data.modalities
    assert isinstance(model, CMATHOptions)
    width, slots = model.width, sizes.shape.rows * sizes.shape.slots
    square = 2.0 * slots * width**2  # [slots, d] x [d, d]
    features = 2.0 * slots * width * sum(sizes.dims[m] for m in present)
    pairs = len(present) ** 2 if model.cross_attention else 0

    inputs = features * (model.kernel if model.reconstruction else 1) + 2.0 * slots * width * sizes.speakers
    restored = features * model.kernel if model.reconstruction else 0.0
    # Per pair: query, key, value, output, two layers of the feed-forward; scores and their mixtures.
    blocks = pairs * (6 * square + 2 * 2.0 * slots * sizes.shape.slots * width)
    gates = pairs * square if len(present) > 1 else 0.0
    gaussians = len(present) * (4 if model.noise else 2) * square
    classifiers = (len(present) + 1) * 2.0 * slots * width * sizes.classes
    return 2 * inputs + 3 * (restored + blocks + gates + gaussians + classifiers)


def parameter_count(config: Config, sizes: WorkloadSizes) -> int:
    """Returns the number of parameters of a CMATH."""
    model, present = config.model, config.data.modalities
    assert isinstance(model, CMATHOptions)
    width, features = model.width, sum(sizes.dims[m] for m in present)
    layer = width**2 + width
    if model.reconstruction:
        inputs = 2 * model.kernel * width * features + features
    else:
        inputs = width * features + len(present) * width
    # A block: query, key, value without bias, output, two layers of the feed-forward, two norms.
    pairs = len(present) ** 2 if model.cross_attention else 0
    blocks = pairs * (3 * width**2 + 3 * layer + 4 * width)
    gates = len(present) * width**2 if pairs and len(present) > 1 else 0
    gaussians = len(present) * (4 if model.noise else 2) * layer
    classifiers = (len(present) + 1) * (width + 1) * sizes.classes
    return inputs + sizes.speakers * width + blocks + gates + gaussians + classifiers


def state_bytes(config: Config, sizes: WorkloadSizes) -> int:
    """Returns the bytes that the update reads or writes: parameters, gradients, two moments, and the average if any."""
    return (5 if config.optim.average else 4) * FLOAT32 * parameter_count(config, sizes)


@dataclass(frozen=True)
class Counted:
    """The work that the compiler counts in a program; 0 where a compiler counts nothing, as that of a TPU or GPU may.

    Attributes:
      flops: of matrix products and of elementwise work.
      bytes: that its kernels read and write, out of a cache or out of memory.
    """

    flops: float
    bytes: float

    @classmethod
    def of(cls, compiled: Any) -> "Counted":
        """Returns the counts of a compiled function. The body of a loop is counted once, however often it runs."""
        counts = compiled.cost_analysis() or {}
        return cls(counts.get("flops", 0.0), counts.get("bytes accessed", 0.0))


def measure_rates(dtype: Any, working_set: int) -> Rates:
    """Measures the default device: products of `dtype`, and copies over `working_set` bytes (see `state_bytes`)."""
    return Rates(product_rate(dtype), copy_rate(working_set))


def product_rate(dtype: Any) -> float:
    """Returns the FLOP/s of a plain product of square matrices, of the best of a few sizes."""
    best = 0.0
    for size in PRODUCT_SIZES:
        square = jax.random.normal(jax.random.key(0), (size, size), dtype)
        seconds = fastest(partial(_matmul, square, square, precision=product_precision(dtype)))
        best = max(best, 2.0 * size**3 / seconds)
        if seconds > LONGEST_PRODUCT:
            break
    return best


def copy_rate(working_set: int) -> float:
    """Returns the bytes/s, read and written, of a plain pass over memory that is overwritten in place."""
    buffers = [jnp.ones(working_set // FLOAT32, jnp.float32)]

    def copy() -> jax.Array:
        for _ in range(COPIES):
            buffers[0] = _overwrite(buffers[0])
        return buffers[0]

    return COPIES * 2 * buffers[0].nbytes / fastest(copy)


def fastest(call: Callable[[], Any]) -> float:
    """Returns the seconds of the fastest of a few calls: what disturbs a device only makes it slower."""
    jax.block_until_ready(call())  # compiles
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def processor() -> str:
    """Returns the name that the processor gives itself."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().split("\n") if facts.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


_matmul = jax.jit(jnp.matmul, static_argnames="precision")
_overwrite = jax.jit(jnp.negative, donate_argnums=0)
