"""Every option once: its type, its default, what it means, and the check of its value.

A config is a tree of frozen dataclasses. `override` changes options by their dotted names, as the command line does;
`to_dict` and `from_dict` take it to JSON and back. Unknown names and wrong types are refused.
"""

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, TypeVar

from cmath_jax.data.corpus import MODALITIES
from cmath_jax.data.load import FEATURE_SET_NAMES, VALIDATIONS
from cmath_jax.data.sources.counts import COUNT_CHECKS
from cmath_jax.data.sources.simulate import Simulation
from cmath_jax.errors import InputError, nearest, not_one_of, suggestion

INJECTIONS = ("attention", "block", "nothing")
SCHEDULES = ("constant", "linear", "cosine")
PRECISIONS = ("float32", "bfloat16")
ENGINES = ("auto", "jit", "pmap")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    _require(value in allowed, not_one_of(name, value, allowed))


@dataclass(frozen=True)
class DataConfig:
    """Where conversations come from, and what of them is used."""

    features_dir: str = "data"  # the folder of published feature files
    dir: str = ""  # the folder of one's own conversations, for dataset=conversations
    feature_set: str = "auto"  # sdt, graphsmile, cosmic, mmgcn, file; auto: the first whose file is there
    file: str = ""  # one feature file by name or path, instead of a known feature set
    text_layer: int = 1  # which of the four published RoBERTa layers; 1 is the last
    modalities: str = "tav"  # any of t, a, v
    standardize: bool = True  # features to mean 0 and deviation 1, by the training split
    validation: str = "auto"  # the data set's own split, or else drawn; drawn; published12 (IEMOCAP)
    validation_seed: int = 0  # of the drawn validation split
    check_counts: str = "error"  # warn accepts a known data set whose counts differ from the published ones
    prepared_dir: str = ""  # where prepared data sets are kept; "" is the default of tensorflow-datasets
    stream: bool = False  # training features stay on disk and are read for each step: for data larger than memory
    simulation: Simulation = field(default_factory=Simulation)  # the built-in corpus

    def __post_init__(self) -> None:
        known = all(m in MODALITIES for m in self.modalities)
        _require(
            known and 0 < len(self.modalities) == len(set(self.modalities)),
            f"data.modalities={self.modalities!r} is not a choice of the letters {', '.join(MODALITIES)}",
        )
        _require(1 <= self.text_layer <= 4, f"data.text_layer={self.text_layer} is not one of 1, 2, 3, 4")
        _one_of("data.feature_set", self.feature_set, FEATURE_SET_NAMES)
        _one_of("data.validation", self.validation, VALIDATIONS)
        _one_of("data.check_counts", self.check_counts, COUNT_CHECKS)


@dataclass(frozen=True)
class ModelConfig:
    """The architecture; see `cmath_jax.models.cmath.CMATH`."""

    name: str = "cmath"
    width: int = 400  # d of the paper
    heads: int = 10  # of attention; they divide the width
    dropout: float = 0.5
    kernel: int = 1  # of the convolutions, odd
    reconstruction: bool = True  # False: w/o MR
    cross_attention: bool = True  # False: w/o CMA-T
    inject: str = "attention"  # what eq. 11 adds: attention, block or nothing
    noise: bool = True  # False: the fusion is deterministic
    causal: bool = False  # True: an utterance sees only itself and what was said before it

    def __post_init__(self) -> None:
        _require(self.width > 0, f"model.width={self.width} must be positive")
        _require(self.heads > 0, f"model.heads={self.heads} must be positive")
        _require(
            self.width % self.heads == 0, f"model.width={self.width} is not a multiple of model.heads={self.heads}"
        )
        _require(0 <= self.dropout <= 0.99, f"model.dropout={self.dropout} is not between 0 and 0.99")
        _require(self.kernel > 0 and self.kernel % 2 == 1, f"model.kernel={self.kernel} is not an odd positive number")
        _one_of("model.inject", self.inject, INJECTIONS)


@dataclass(frozen=True)
class LossConfig:
    """The weights of eq. 24."""

    gamma1: float = 1.0  # of the low-level distillation; 0: w/o LLD
    gamma2: float = 1.2  # of the high-level distillation; 0: w/o HLD
    reconstruction: float = 1.0  # of L_rec
    stop_teacher: bool = True  # no gradient from the distillation terms into the teacher
    temperature: float = 1.0  # of both softmaxes in the high-level distillation
    class_weights: bool = False  # cross-entropy by inverse frequency in the training split

    def __post_init__(self) -> None:
        for name in ("gamma1", "gamma2", "reconstruction"):
            value = getattr(self, name)
            _require(0 <= value < inf, f"loss.{name}={value} must be a number of 0 or more")
        _require(0 < self.temperature < inf, f"loss.temperature={self.temperature} must be positive and finite")


@dataclass(frozen=True)
class OptimConfig:
    """Adam and what may go around it."""

    learning_rate: float = 2e-4  # at its highest
    schedule: str = "constant"  # after the warm-up: constant, or to 0 over train.epochs: linear, cosine
    warmup_epochs: float = 0.0  # over so many the rate rises linearly to its highest
    clip_norm: float = 0.0  # of the whole gradient; 0 does not clip
    weight_decay: float = 0.0  # L2 coupled to the gradient, as torch.optim.Adam has it
    average: float = 0.0  # evaluates an average over steps, weighed by average^age; 0 evaluates the last parameters

    def __post_init__(self) -> None:
        _require(0 < self.learning_rate < inf, f"optim.learning_rate={self.learning_rate} must be positive and finite")
        _one_of("optim.schedule", self.schedule, SCHEDULES)
        for name in ("warmup_epochs", "clip_norm", "weight_decay"):
            value = getattr(self, name)
            _require(0 <= value < inf, f"optim.{name}={value} must be a number of 0 or more")
        _require(0 <= self.average < 1, f"optim.average={self.average} is not in [0, 1)")


@dataclass(frozen=True)
class TrainConfig:
    """How long, and how much at once."""

    epochs: int = 50  # at most
    batch_size: int = 4  # conversations a step, over all devices
    patience: int = 10  # epochs without a better validation weighted F1 before it stops; 0 never stops early

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            _require(getattr(self, name) > 0, f"train.{name}={getattr(self, name)} must be positive")
        _require(self.patience >= 0, f"train.patience={self.patience} must not be negative")


@dataclass(frozen=True)
class ParallelConfig:
    """Where the step runs."""

    engine: str = "auto"  # pmap or jit; auto: jit on one device, pmap on several
    devices: int = 0  # how many of the devices at hand; 0 is all of them
    population: int = 0  # runs trained side by side as one program; 0: all that memory holds, but one on a CPU
    distributed: bool | None = None  # true: several processes; false: this one alone; None: as a launcher says (Slurm,
    # Open MPI, a TPU pod of GKE), or else this one alone
    coordinator: str = ""  # HOST:PORT of the first process; "" asks the cluster
    num_processes: int = 0  # 0 asks the cluster
    process_id: int = -1  # from 0; -1 asks the cluster

    def __post_init__(self) -> None:
        _one_of("parallel.engine", self.engine, ENGINES)
        for name in ("devices", "population", "num_processes"):
            _require(getattr(self, name) >= 0, f"parallel.{name}={getattr(self, name)} must not be negative")
        given = bool(self.coordinator), self.num_processes > 0, self.process_id >= 0
        _require(
            bool(self.distributed) or not any(given),
            "parallel.coordinator, parallel.num_processes and parallel.process_id need parallel.distributed=true",
        )
        if self.coordinator:
            check_address("parallel.coordinator", self.coordinator)
        _require(
            not any(given) or (all(given) and self.process_id < self.num_processes),
            f"parallel.coordinator={self.coordinator!r}, parallel.num_processes={self.num_processes} and "
            f"parallel.process_id={self.process_id} go together, and the last one counts from 0",
        )


def check_address(name: str, address: str) -> None:
    """Raises InputError for anything but HOST:PORT; a host of IPv6 stands in brackets."""
    host, _, port = address.rpartition(":")
    named = bool(host) and not (":" in host and not (host[0] == "[" and host[-1] == "]"))
    _require(
        named and port.isascii() and port.isdigit() and 0 < int(port) < 2**16,
        f"{name}={address!r} is not HOST:PORT, as in 10.0.0.1:1234",
    )


@dataclass(frozen=True)
class Config:
    """One experiment. The defaults are the paper's settings for MELD, on the built-in corpus."""

    experiment: str = "cmath"
    dataset: str = "simulated"  # meld, iemocap, conversations, simulated, or the path of a feature file
    seeds: int = 1  # seeds 0 .. seeds-1 are run and aggregated
    precision: str = "float32"  # of the computation; parameters and losses are always float32
    profile: str = ""  # steps: a trace of a few training steps in the folder of the run
    linear_reference: str = ""  # a linear model of so many of data.modalities beside the result; "" for none
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)

    def __post_init__(self) -> None:
        _require(self.seeds > 0, f"seeds={self.seeds} must be positive")
        _one_of("precision", self.precision, PRECISIONS)
        _require(self.profile in ("", "steps"), f"profile={self.profile!r} is neither steps nor empty")
        _require(
            all(m in MODALITIES for m in self.linear_reference),
            f"linear_reference={self.linear_reference!r} has other letters than {', '.join(MODALITIES)}",
        )
        _require(
            not (self.data.stream and self.linear_reference),
            "data.stream=true keeps training features out of memory, where a linear reference needs them: set "
            "linear_reference= to nothing, or data.stream=false",
        )
        _require(
            self.optim.warmup_epochs < self.train.epochs,
            f"optim.warmup_epochs={self.optim.warmup_epochs} is not less than train.epochs={self.train.epochs}: "
            "the learning rate would never be reached",
        )


Options = TypeVar("Options")


def override(config: Options, values: Mapping[str, Any], others: Collection[str] = ()) -> Options:
    """A copy with the options of the given dotted names changed: `override(config, {"model.width": 128})`.

    A string stands for the value that it spells (`"128"`), so that the command line can use it.

    Args:
      others: names that are known elsewhere, and may be meant by one that is unknown here.

    Raises:
      InputError: for an unknown name, a value of the wrong type, or one that the config refuses.
    """
    nested: dict[str, Any] = {}
    known = [*flat(to_dict(config)), *others]
    for name, value in values.items():
        if name not in known and (near := nearest(name, known)):
            group = dataclasses.is_dataclass(getattr(config, name, None))  # named below, for what it is
            _require(group, f"unknown option {name!r}; did you mean {near}?")
        *parents, leaf = name.split(".")
        here = nested
        for parent in parents:
            here = here.setdefault(parent, {})
            _require(isinstance(here, dict), f"option {name!r} and its parent are both given")
        here[leaf] = value
    return _merge(config, nested, "")


def to_dict(config: Any) -> dict[str, Any]:
    """The whole tree as plain values, ready for JSON."""
    return dataclasses.asdict(config)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The options of `to_dict` by their dotted names."""
    options: dict[str, Any] = {}
    for name, value in values.items():
        options |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return options


# Options that may change between two runs of one folder: none of them changes a number beyond rounding, or where the
# data lie, since their fingerprint tells whether they are the same.
FREE = (
    *("seeds", "linear_reference", "experiment", "parallel.", "profile"),
    *("data.features_dir", "data.dir", "data.feature_set", "data.file", "data.prepared_dir", "data.stream"),
)


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any], free: tuple[str, ...] = FREE) -> list[str]:
    """What differs between two configs, as `to_dict` gives them, readable; options with `free` beginnings may.

    An option that a config does not have, since it is older, counts as its default.
    """
    free = free if wanted["dataset"] == "simulated" else (*free, "data.simulation.")
    defaults = binding(to_dict(Config()), free)
    there, now = defaults | binding(saved, free), defaults | binding(wanted, free)
    return [f"{n}: {there.get(n)!r} there, {now.get(n)!r} now" for n in {**there, **now} if there.get(n) != now.get(n)]


def binding(values: Mapping[str, Any], free: tuple[str, ...] = FREE) -> dict[str, Any]:
    """The options of `to_dict` that two runs have in common if they are one, by their dotted names."""
    return {name: value for name, value in flat(values).items() if not name.startswith(free)}


def from_dict(values: Mapping[str, Any]) -> Config:
    """The config of a `config.json`.

    Raises:
      InputError: as `override`.
    """
    return _merge(Config(), values, "")


def _merge(config: Options, values: Mapping[str, Any], prefix: str) -> Options:
    kinds = typing.get_type_hints(type(config))
    changes = {}
    for name, value in values.items():
        full = prefix + name
        if name not in kinds:
            raise InputError(f"unknown option {full!r}; {suggestion(name, kinds, prefix)}")
        if dataclasses.is_dataclass(kinds[name]):
            _require(isinstance(value, Mapping), f"{full} is a group of options, not one; give {full}.NAME=VALUE")
            changes[name] = _merge(getattr(config, name), value, f"{full}.")
        else:
            changes[name] = convert(full, value, kinds[name])
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def convert(name: str, value: Any, wanted: Any) -> Any:
    """The value of an option in its type; a string stands for the value that it spells. Raises InputError."""
    if typing.get_origin(wanted) is types.UnionType:  # of a type and None
        (wanted,) = (each for each in typing.get_args(wanted) if each is not types.NoneType)
        if value in (None, "None"):
            return None
    if wanted is bool and value in ("true", "True", "false", "False"):
        return value in ("true", "True")
    # A bool is an int to Python, but not to a reader of the config.
    if isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool):
        return value
    try:
        if wanted is float and not isinstance(value, bool):
            return float(value)
        if wanted is int and isinstance(value, str):
            return int(value)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{name}={value!r} is not of type {wanted.__name__}")
