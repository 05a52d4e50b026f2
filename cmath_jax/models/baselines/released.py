"""Brings weights of the released code of other models here, and compares what we compute with what it computed.

    python -m cmath_jax.models.baselines.released NAME FILE.npz

NAME is a model, in any spelling (MMGCN, mm_dfn, DialogueGCNorig); FILE holds test vectors: conversations, parameters by
the names of the released code, its log-probabilities, mean cross-entropy and gradient, all in float64 (see
`vectors`). The exit code is 0 where log-probabilities agree within 1e-9 and gradients within 1e-7, 1 where they do
not, 2 for a file that does not fit.
"""

import contextlib
import importlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.data.batches import PADDING, Batch, Table
from cmath_jax.data.corpus import Sizes
from cmath_jax.data.packing import Shape
from cmath_jax.errors import InputError, doing, not_one_of, require
from cmath_jax.io.command import Parser, answer, tell
from cmath_jax.models.baselines.state_dict import read_state_dict
from cmath_jax.models.baselines.vectors import Vectors, read_vectors
from cmath_jax.models.baselines.weights import Released, Tree, Weights
from cmath_jax.models.options import MODELS
from cmath_jax.models.outputs import Outputs
from cmath_jax.models.registry import make_model

LOG_PROBABILITY_TOLERANCE, GRADIENT_TOLERANCE = 1e-9, 1e-7


@dataclass(frozen=True)
class Converted:
    """A model of ours with the parameters of released code.

    Attributes:
      model: computes in float64, or in the type that was asked for.
      options: of the model, by names without `model.`.
      params: of the model, in the type of the weights.
      unused: the names of parameters that the released code has and does not use.
      standardization: modality -> mean and deviation [d_m] of its features; empty where they are taken as they are.
    """

    model: nn.Module
    options: Mapping[str, Any]
    params: Tree
    unused: tuple[str, ...]
    standardization: Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Deviations:
    """The largest absolute differences between what we compute and what a file says.

    Attributes:
      gradient_name: the parameter of ours that has the largest difference of its gradient.
    """

    log_probability: float
    loss: float
    gradient: float
    gradient_name: str

    @property
    def agree(self) -> bool:
        """Returns whether both are within their tolerances."""
        near = max(self.log_probability, self.loss) <= LOG_PROBABILITY_TOLERANCE
        return near and self.gradient <= GRADIENT_TOLERANCE


@dataclass(frozen=True)
class _Sizes:
    classes: tuple[str, ...]
    speakers: int


def find_released(name: str) -> tuple[str, Released]:
    """Returns the model of ours, and the way to it, of a released model in any spelling of its name.

    Raises:
      InputError: for a name that is none of them.
    """
    wanted, known = _plain(name), []
    for model, kind in MODELS.items():
        module = importlib.import_module(kind.module.partition(":")[0])
        for each, released in getattr(module, "RELEASED", {}).items():
            known.append(each)
            if wanted in (_plain(each), _plain(model)):
                return model, released
    raise InputError(not_one_of("NAME", name, known))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def convert(
    name: str,
    weights: Weights,
    sizes: Sizes,
    options: Mapping[str, Any] | None = None,
    precision: str = "float64",
) -> Converted:
    """Converts the parameters of released code.

    Args:
      name: of the released model, in any spelling.
      options: of our model, which neither the shapes of the parameters nor `Weights.extra` say, by names without
        `model.`.

    Raises:
      InputError: for parameters that are not those of this model.
    """
    model_name, released = find_released(name)
    kind = MODELS[model_name]
    with fitting(name):
        chosen = {**released.options(weights), **(options or {})}
    unknown = [each for each in chosen if each not in {field.name for field in fields(kind) if field.init}]
    require(not unknown, f"{model_name} has no option {', '.join(unknown)}")
    with fitting(name):
        model = make_model(kind(**chosen), sizes, "tav", precision).clone(**released.constants(weights))
        params = released.params(weights, chosen)
        standardization = released.standardization(weights)
    classes = len(params["classifier"]["bias"])
    require(classes == weights.classes, f"the parameters are of {classes} classes, and there are {weights.classes}")
    left = sorted(set(weights.arrays) - weights.asked)
    strange = [each for each in left if not re.fullmatch(released.dead or "(?!)", each)]
    require(
        not strange,
        f"{len(strange)} parameters are not of {name}, such as {', '.join(strange[:3])}; is this another model?",
    )
    return Converted(model, chosen, params, tuple(left), standardization)


@contextlib.contextmanager
def fitting(name: str) -> Iterator[None]:
    """Raises InputError where arrays have not the axes, or not the sizes, that this model needs."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError, LookupError) as error:
        told = " ".join(str(error).split())
        raise InputError(f"parameters, or what else the file holds, do not fit {name}: {told}") from error


def load(name: str, path: Path, sizes: Sizes, options: Mapping[str, Any] | None = None) -> Converted:
    """Loads a state dict of released code, a file of torch.save, into our model, which computes in float32.

    Args:
      name: of the released model, in any spelling.
      sizes: classes and speakers of the data that it was trained on; a `Corpus` has them.
      options: as for `convert`.

    Raises:
      InputError: for a file that is no state dict, or one of another model.
    """
    weights = Weights(read_state_dict(path), len(sizes.classes), sizes.speakers)
    return convert(name, weights, sizes, options, "float32")


def compare(name: str, vectors: Vectors, options: Mapping[str, Any] | None = None) -> tuple[Converted, Deviations]:
    """Compares what our model computes in float64 with test vectors. Raises InputError for vectors of another model.

    All conversations are computed together, several of them in one row.
    """
    classes = tuple(str(c) for c in range(vectors.classes))
    sizes = _Sizes(classes, vectors.speakers)
    with jax.enable_x64(True):
        weights = Weights(vectors.parameters, vectors.classes, vectors.speakers, vectors.extra)
        converted = convert(name, weights, sizes, options)
        with fitting(name):
            batch = batch_of(vectors, converted.standardization)
            _check_shapes(converted, batch)
        # What the mean cross-entropy does not depend on has no gradient there, and must have none here.
        none = {each: np.zeros_like(x) for each, x in vectors.parameters.items()}
        released = find_released(name)[1]
        gradients = released.params(replace(weights, arrays={**none, **vectors.gradients}), converted.options)

        def log_probabilities(model: nn.Module, params: Any) -> jax.Array:
            outputs = cast(Outputs, model.apply({"params": params}, batch, train=False))
            return jax.nn.log_softmax(outputs.logits_rlc)

        @jax.jit
        def loss_of(params: Any) -> tuple[jax.Array, jax.Array]:
            log_rlc = log_probabilities(converted.model, params)
            chosen_rl = jnp.take_along_axis(log_rlc, jnp.maximum(batch.label_rl, 0)[..., None], -1)[..., 0]
            counted_rl = batch.label_rl >= 0
            return -jnp.where(counted_rl, chosen_rl, 0.0).sum() / counted_rl.sum(), log_rlc

        params = jax.tree.map(jnp.asarray, converted.params)
        (loss, log_rlc), computed = jax.value_and_grad(loss_of, has_aux=True)(params)
        filled_rl = batch.utterance_rl != PADDING
        order_n = np.argsort(batch.utterance_rl[filled_rl])
        all_log_rlc = [(log_rlc, vectors.log_probabilities)]
        for prefix, attributes in released.variants(weights).items():
            with fitting(name):
                expected = [vectors.extra[f"{prefix}_{k}"] for k in range(len(vectors.conversations))]
                model = converted.model.clone(**attributes)
                all_log_rlc.append((jax.jit(partial(log_probabilities, model))(params), expected))
        log_probability = max(
            float(np.abs(np.asarray(x_rlc)[filled_rl][order_n] - np.concatenate(expected)).max())
            for x_rlc, expected in all_log_rlc
        )
        differences = jax.tree.map(lambda x, y: float(np.abs(np.asarray(x) - y).max(initial=0)), computed, gradients)
    by_name = {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(differences)}
    worst = max(by_name, key=lambda each: by_name[each])
    return converted, Deviations(
        log_probability=log_probability,
        loss=abs(float(loss) - vectors.loss),
        gradient=by_name[worst],
        gradient_name=worst,
    )


def batch_of(vectors: Vectors, standardization: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Batch:
    """Returns all conversations as a batch of two rows, with padding behind them, float64."""
    table = Table.of(vectors.conversations, "tav")
    rows: tuple[list[int], list[int]] = ([], [])
    for b in range(len(vectors.conversations)):
        rows[b % 2].append(b)
    longest = max(int(table.length_b[row].sum()) for row in rows)
    plan = table.plan(rows, Shape(2, longest + 2))
    features = {}
    for m, x_nd in table.features.items():
        mean, deviation = standardization.get(m, (0.0, 1.0))
        features[m] = np.zeros((*plan.utterance_rl.shape, x_nd.shape[1]))
        features[m][plan.utterance_rl != PADDING] = ((x_nd - mean) / deviation)[
            plan.utterance_rl[plan.utterance_rl != PADDING]
        ]
    return plan.replace(features=features)  # type: ignore[attr-defined,no-any-return]


def _check_shapes(converted: Converted, batch: Batch) -> None:
    """Raises InputError where the parameters have not the shapes of the model."""
    init = jax.eval_shape(lambda: converted.model.init(jax.random.key(0), batch, train=False)["params"])
    expected, given = (
        {jax.tree_util.keystr(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (init, converted.params)
    )
    wrong = [
        f"{name} is {given.get(name)}, not {expected.get(name)}"
        for name in {**expected, **given}
        if given.get(name) != expected.get(name)
    ]
    require(not wrong, f"parameters do not fit: {'; '.join(wrong[:3])}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 both agree, 1 they do not, 2 bad input."""
    return answer(lambda: _command(arguments))


def _command(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        prog="python -m cmath_jax.models.baselines.released",
        description="Compares a model with what its released code computed; see docs/baselines.md.",
    )
    parser.add_argument("name", metavar="NAME", help="a released model, such as MMGCN")
    parser.add_argument("file", metavar="FILE", type=Path, help="test vectors, a .npz file")
    given = parser.parse_args(arguments)
    require(
        given.file.suffix not in (".pt", ".pth", ".bin"),
        f"{given.file}: a state dict holds nothing to compare with; `released.load` makes a model of it "
        "(docs/baselines.md)",
    )
    with doing("reading", given.file):
        vectors = read_vectors(given.file)
    converted, found = compare(given.name, vectors)
    count = sum(x.size for x in jax.tree.leaves(converted.params))
    options = ", ".join(f"{name}={value}" for name, value in converted.options.items())
    tell(f"{given.file}: {len(vectors.conversations)} conversations, {count:,} parameters; {options}")
    if converted.unused:
        tell(f"not used by the released code: {len(converted.unused)} parameters")
    tell(f"log-probabilities   {found.log_probability:.1e} at most, of {LOG_PROBABILITY_TOLERANCE:.0e}")
    tell(f"mean cross-entropy  {found.loss:.1e}")
    tell(f"its gradient        {found.gradient:.1e} at most, of {GRADIENT_TOLERANCE:.0e}, at {found.gradient_name}")
    tell("they agree" if found.agree else "they do not agree")
    return 0 if found.agree else 1


if __name__ == "__main__":
    sys.exit(main())
