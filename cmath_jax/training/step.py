"""The step of training and that of evaluation: pure functions of a state, a batch and the hyper-parameters.

Every random number is addressed by (seed, name of the draw, step).
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from cmath_jax.config import Config
from cmath_jax.data.batches import Array, Batch, with_features
from cmath_jax.data.corpus import UNLABELLED
from cmath_jax.models.outputs import Evaluation, Outputs
from cmath_jax.models.precision import products_of
from cmath_jax.training.losses import LossWeights, Mean, loss_terms, total_loss
from cmath_jax.training.optim import at_rate, averaged


@flax.struct.dataclass
class TrainState:
    """All that changes in training, and the seed. Data only.

    Attributes:
      step: int32, steps done.
      seed: int32; every random draw is a function of it, the name of the draw and the step.
      params: of the model.
      opt_state: of the optimizer.
      average: of the parameters after each step (`optim.averaged`), or None where the last ones are evaluated.
    """

    step: jax.Array
    seed: jax.Array
    params: Any
    opt_state: optax.OptState
    average: Any

    @property
    def evaluated(self) -> Any:
        """Returns the parameters that predict."""
        return self.params if self.average is None else self.average


@flax.struct.dataclass
class HyperParams:
    """The numbers of a config as data: trials that differ in them alone share a compiled step.

    Attributes:
      learning_rate: float32, at its highest.
      dropout: float32, or None where nothing is dropped, which saves the drawing.
    """

    learning_rate: Array
    dropout: Array | None
    loss: LossWeights

    @classmethod
    def of(cls, config: Config, class_weight_c: np.ndarray) -> "HyperParams":
        """Returns the hyper-parameters of a config, on the host; `class_weight_c` as for `LossWeights.of`."""
        dropout = np.float32(config.model.dropout) if config.model.dropout else None
        return cls(np.float32(config.optim.learning_rate), dropout, LossWeights.of(config.loss, class_weight_c))


def rng_key(seed: jax.Array, name: str, step: jax.Array | int = 0) -> jax.Array:
    """Returns the random key of (seed, name, step). A draw of a new name leaves the others as they are."""
    tag = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), tag), step)


def init_state(
    seed: jax.Array, batch: Batch, model: nn.Module, tx: optax.GradientTransformation, average: float
) -> TrainState:
    """Returns a fresh `TrainState`."""
    params = model.init(rng_key(seed, "params"), batch, train=False)["params"]
    mean = jax.tree.map(jnp.copy, params) if average else None
    return TrainState(jnp.zeros((), jnp.int32), jnp.asarray(seed, jnp.int32), params, tx.init(params), mean)


def train_step(
    state: TrainState,
    batch: Batch,
    hyper_params: HyperParams,
    *,
    model: nn.Module,
    tx: optax.GradientTransformation,
    average: float,
    axis: str | None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes one step of training, on this device's share of the batch.

    Args:
      axis: the mapped axis over which losses and gradients are summed; None where this device holds the whole batch.

    Returns:
      The state after the step, and scalars: the loss, its terms, the norm of the gradient and the mean deviation of
      the fused Gaussian.
    """

    def over_devices(x: Any) -> Any:
        return x if axis is None else jax.lax.psum(x, axis)

    options: dict[str, Any] = {"train": True, "dropout": hyper_params.dropout}
    rngs = {name: rng_key(state.seed, name, state.step) for name in ("dropout", "noise")}

    def loss_of(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        outputs = cast(Outputs, model.apply({"params": params}, batch, **options, rngs=rngs))
        with jax.named_scope("losses"):
            terms = loss_terms(outputs, batch, hyper_params.loss)
            deviation = Mean.of(outputs.deviation_rld.mean(-1), batch.label_rl != UNLABELLED)
            # Divided by the counts of all devices: the sum of these losses over devices is the loss of the whole batch.
            shares = {
                name: Mean(term.sum, over_devices(term.count)).value()
                for name, term in (terms | {"deviation": deviation}).items()
            }
            return total_loss({name: shares[name] for name in terms}, hyper_params.loss), shares

    with products_of(model):
        (loss, terms), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    loss, terms, grads = over_devices((loss, terms, grads))
    with jax.named_scope("optimizer"):
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, at_rate(hyper_params.learning_rate, updates))
    mean = state.average
    if mean is not None:
        with jax.named_scope("average"):
            mean = averaged(average, mean, params, state.step + 1)
    metrics = {"loss": loss, **terms, "gradient_norm": optax.tree.norm(grads)}
    return replace(state, step=state.step + 1, params=params, opt_state=opt_state, average=mean), metrics


def train_steps(
    state: TrainState,
    plan: Batch,
    features: Mapping[str, jax.Array],
    hyper_params: HyperParams,
    first: jax.Array,
    last: jax.Array,
    *,
    step: Callable[[TrainState, Batch, HyperParams], tuple[TrainState, dict[str, jax.Array]]],
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes the steps `first` to `last - 1` of a plan, one after the other on the device.

    How an epoch is cut into such calls changes nothing, since `first` and `last` are data of one compiled loop.

    Args:
      plan: of [s, r, l]; or batches, with features.
      features: what the plan refers to, as `Table.padded_features`; empty for batches.
      step: `train_step` with all but these arguments given.

    Returns:
      The state, and the scalars of each step [s]; 0 for steps that were not done.
    """

    def batch_of(i: jax.Array | int) -> Batch:
        batch = jax.tree.map(lambda x_srl: x_srl[i], plan)
        return with_features(batch, features) if features else batch

    def advance(i: jax.Array, carry: tuple[TrainState, dict[str, jax.Array]]) -> Any:
        state, metrics = step(carry[0], batch_of(i), hyper_params)
        return state, jax.tree.map(lambda x_s, x: x_s.at[i].set(x), carry[1], metrics)

    step = jax.jit(step)  # traced once, though asked twice
    _, scalars = jax.eval_shape(step, state, batch_of(0), hyper_params)
    steps = plan.utterance_rl.shape[0]
    nothing = jax.tree.map(lambda x: jnp.zeros(steps, x.dtype), scalars)
    state, metrics = jax.lax.fori_loop(first, last, advance, (state, nothing))
    return state, metrics


def eval_step(params: Any, plan: Batch, features: Mapping[str, jax.Array], *, model: nn.Module) -> Evaluation:
    """Returns what the model says without dropout or noise; `features` as for `train_steps`."""
    with products_of(model):
        outputs = cast(Outputs, model.apply({"params": params}, with_features(plan, features), train=False))
    gates = jax.tree.map(lambda weight_rld: weight_rld.mean(-1), outputs.gates)
    return Evaluation(nn.softmax(outputs.logits_rlc), outputs.mean_rld, gates)
