"""The options, each once: its type, its default, what it means, its role, and the check of its value.

A config is a tree of frozen dataclasses. `override` changes options by their dotted names, as the command line does;
`to_dict` and `from_dict` take it to JSON and back. Unknown names and wrong types are refused. The options of the models
are in `models.options`. What two configs must have in common, to be of one folder, one program or one corpus, follows
from the roles.
"""

import dataclasses
import functools
import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from math import inf
from typing import Any, TypeVar

from cmath_jax.data.corpus import MODALITIES
from cmath_jax.data.load import FEATURE_SET_NAMES, VALIDATIONS
from cmath_jax.data.sources.counts import COUNT_CHECKS
from cmath_jax.data.sources.simulate import Simulation
from cmath_jax.errors import InputError, nearest, require, require_one_of, suggestion
from cmath_jax.io.roles import FREE, HYPER, PLACE, SOURCE, STRUCTURAL, Role, option, role_of, stated
from cmath_jax.io.spelled import check_address, convert
from cmath_jax.models import options as models
from cmath_jax.models.options.base import ModelOptions
from cmath_jax.models.options.cmath import CMATHOptions

SCHEDULES = ("constant", "linear", "cosine")
PRECISIONS = ("float32", "bfloat16")
ENGINES = ("auto", "jit", "pmap")


@dataclass(frozen=True)
class DataConfig:
    """The source of conversations, and what of them is used."""

    features_dir: str = option("data", PLACE)  # the folder of published feature files
    dir: str = option("", PLACE)  # the folder of one's own conversations, for dataset=conversations
    feature_set: str = option("auto", PLACE)  # sdt, graphsmile, cosmic, mmgcn, file; auto: the first that is there
    file: str = option("", PLACE)  # one feature file by name or path, instead of a known feature set
    text_layer: int = option(1, SOURCE)  # which of the four published RoBERTa layers; 1 is the last; 0: all of them
    modalities: str = "tav"  # any of t, a, v
    standardize: bool = True  # features to mean 0 and deviation 1, by the training split
    validation: str = option("auto", SOURCE)  # the data set's own split, or else drawn; drawn; published12 (IEMOCAP)
    validation_seed: int = option(0, SOURCE)  # of the drawn validation split
    check_counts: str = option("error", SOURCE)  # warn accepts a known data set of other counts than the published ones
    prepared_dir: str = option("", PLACE)  # of prepared data sets; "" is the default of tensorflow-datasets
    stream: bool = option(False, PLACE)  # reads training features from disk for each step: for data larger than memory
    # The built-in corpus.
    simulation: Simulation = field(default_factory=Simulation, metadata=stated(Role.SIMULATED | Role.CORPUS))

    def __post_init__(self) -> None:
        known = all(m in MODALITIES for m in self.modalities)
        require(
            known and 0 < len(self.modalities) == len(set(self.modalities)),
            f"data.modalities={self.modalities!r} is not a choice of the letters {', '.join(MODALITIES)}",
        )
        require(0 <= self.text_layer <= 4, f"data.text_layer={self.text_layer} is not one of 0, 1, 2, 3, 4")
        require_one_of("data.feature_set", self.feature_set, FEATURE_SET_NAMES)
        require_one_of("data.validation", self.validation, VALIDATIONS)
        require_one_of("data.check_counts", self.check_counts, COUNT_CHECKS)

    def source(self) -> dict[str, Any]:
        """Returns the options that say which corpus is loaded, as `load_corpus` takes them."""
        return {each.name: getattr(self, each.name) for each in fields(self) if role_of(each, FREE) & Role.CORPUS}


@dataclass(frozen=True)
class LossConfig:
    """The weights of eq. 24."""

    gamma1: float = option(1.0, HYPER)  # of the low-level distillation; 0: w/o LLD
    gamma2: float = option(1.2, HYPER)  # of the high-level distillation; 0: w/o HLD
    reconstruction: float = option(1.0, HYPER)  # of L_rec
    stop_teacher: bool = option(True, HYPER)  # no gradient from the distillation terms into the teacher
    temperature: float = option(1.0, HYPER)  # of both softmaxes in the high-level distillation
    class_weights: bool = option(False, HYPER)  # cross-entropy by inverse frequency in the training split
    focal: float = option(0.0, HYPER)  # gamma of the focal loss (Lin et al. 2017) in place of the cross-entropy, if > 0

    def __post_init__(self) -> None:
        for name in ("gamma1", "gamma2", "reconstruction", "focal"):
            value = getattr(self, name)
            require(0 <= value < inf, f"loss.{name}={value} must be a number of 0 or more")
        require(0 < self.temperature < inf, f"loss.temperature={self.temperature} must be positive and finite")


@dataclass(frozen=True)
class OptimConfig:
    """Adam and what may go around it."""

    learning_rate: float = option(2e-4, HYPER)  # at its highest
    schedule: str = "constant"  # after the warm-up: constant, or to 0 over train.epochs: linear, cosine
    warmup_epochs: float = 0.0  # over so many the rate rises linearly to its highest
    clip_norm: float = 0.0  # of the whole gradient; 0 does not clip
    weight_decay: float = 0.0  # L2
    decoupled: bool = False  # False: L2 is part of the gradient, as torch.optim.Adam has it; True: AdamW
    amsgrad: bool = False  # divides by the largest second moment so far (Reddi et al. 2018)
    average: float = 0.0  # evaluates an average over steps, weighed by average^age; 0 evaluates the last parameters
    policy_rate: float = 0.0  # if > 0: every second epoch is of AdaIGN's policies alone, at so many times learning_rate
    policy_decay: float = 0.0  # L2 of policies

    def __post_init__(self) -> None:
        require(0 < self.learning_rate < inf, f"optim.learning_rate={self.learning_rate} must be positive and finite")
        require_one_of("optim.schedule", self.schedule, SCHEDULES)
        for name in ("warmup_epochs", "clip_norm", "weight_decay", "policy_rate", "policy_decay"):
            value = getattr(self, name)
            require(0 <= value < inf, f"optim.{name}={value} must be a number of 0 or more")
        require(0 <= self.average < 1, f"optim.average={self.average} is not in [0, 1)")


@dataclass(frozen=True)
class TrainConfig:
    """The length of training, and the size of a step."""

    epochs: int = 50  # at most
    batch_size: int = 4  # conversations a step, over all devices
    patience: int = 10  # epochs without a better validation weighted F1 before it stops; 0 never stops early
    curriculum: int = 0  # buckets from easy to hard, one more each epoch (MultiDAG+CL); 0: every epoch has all

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            require(getattr(self, name) > 0, f"train.{name}={getattr(self, name)} must be positive")
        for name in ("patience", "curriculum"):
            require(getattr(self, name) >= 0, f"train.{name}={getattr(self, name)} must not be negative")


@dataclass(frozen=True)
class ParallelConfig:
    """The devices and processes on which a step runs."""

    engine: str = "auto"  # jit over a mesh of trials and rows, or pmap; auto: jit
    devices: int = 0  # how many of the devices at hand; 0 is all of them
    population: int = 0  # runs trained side by side as one program; 0: all that memory holds, but one on a CPU
    distributed: bool | None = None  # true: several processes; false: this one alone; None: as a launcher says (Slurm,
    # Open MPI, a TPU pod of GKE), or else this one alone
    coordinator: str = ""  # HOST:PORT of the first process; "" asks the cluster
    num_processes: int = 0  # 0 asks the cluster
    process_id: int = -1  # from 0; -1 asks the cluster

    def __post_init__(self) -> None:
        require_one_of("parallel.engine", self.engine, ENGINES)
        for name in ("devices", "population", "num_processes"):
            require(getattr(self, name) >= 0, f"parallel.{name}={getattr(self, name)} must not be negative")
        given = bool(self.coordinator), self.num_processes > 0, self.process_id >= 0
        require(
            bool(self.distributed) or not any(given),
            "parallel.coordinator, parallel.num_processes and parallel.process_id need parallel.distributed=true",
        )
        if self.coordinator:
            check_address("parallel.coordinator", self.coordinator)
        require(
            not any(given) or (all(given) and self.process_id < self.num_processes),
            f"parallel.coordinator={self.coordinator!r}, parallel.num_processes={self.num_processes} and "
            f"parallel.process_id={self.process_id} go together, and the last one counts from 0",
        )


@dataclass(frozen=True)
class Config:
    """The options of one experiment. The defaults are the paper's settings for MELD, on the built-in corpus."""

    experiment: str = option("cmath", FREE)
    dataset: str = option("simulated", SOURCE)  # meld, iemocap, conversations, simulated, or a feature file's path
    recipe: str = option("", FREE)  # of the model: released or style, shared; sets options that are not given
    seeds: int = option(1, FREE | Role.RESULT)  # seeds 0 .. seeds-1 are run and aggregated
    precision: str = "float32"  # of the computation; parameters and losses are always float32
    profile: str = option("", FREE)  # steps: a trace of a few training steps in the folder of the run
    linear_reference: str = option("", FREE | Role.RESULT)  # the letters that a linear model beside the result sees
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelOptions = field(default_factory=CMATHOptions)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig, metadata=stated(FREE | Role.PROGRAM))

    def __post_init__(self) -> None:
        require(self.seeds > 0, f"seeds={self.seeds} must be positive")
        require_one_of("precision", self.precision, PRECISIONS)
        require(self.profile in ("", "steps"), f"profile={self.profile!r} is neither steps nor empty")
        require(
            all(m in MODALITIES for m in self.linear_reference),
            f"linear_reference={self.linear_reference!r} has other letters than {', '.join(MODALITIES)}",
        )
        require(
            not (self.data.stream and self.linear_reference),
            "data.stream=true keeps training features out of memory, where a linear reference needs them: set "
            "linear_reference= to nothing, or data.stream=false",
        )
        require(
            self.optim.warmup_epochs < self.train.epochs,
            f"optim.warmup_epochs={self.optim.warmup_epochs} is not less than train.epochs={self.train.epochs}: "
            "the learning rate would never be reached",
        )


Options = TypeVar("Options")


def override(config: Config, values: Mapping[str, Any], others: Collection[str] = ()) -> Config:
    """Returns a copy with the options of the given dotted names changed: `override(config, {"model.width": 128})`.

    A string stands for the value that it spells (`"128"`), so that the command line can use it. Another `model.name`
    keeps the options that both models have; the others are at their defaults. A `recipe` sets the options that are not
    given beside it.

    Args:
      others: names that are known elsewhere, and may be meant by one that is unknown here.

    Raises:
      InputError: for an unknown name, a value of the wrong type, or one that the config refuses.
    """
    if recipe := values.get("recipe"):
        named = (values.get("model.name", config.model.name), values.get("dataset", config.dataset))
        values = {**models.recipe_options(recipe, *named), **values}
    nested: dict[str, Any] = {}
    known = [*roles(), *others]
    for name, value in values.items():
        if name not in known and (near := nearest(name, known)):
            is_group = dataclasses.is_dataclass(getattr(config, name, None))  # named below, for what it is
            require(is_group, f"unknown option {name!r}; did you mean {near}?")
        *parents, leaf = name.split(".")
        here = nested
        for parent in parents:
            here = here.setdefault(parent, {})
            require(isinstance(here, dict), f"option {name!r} and its parent are both given")
        here[leaf] = value
    return _merge(config, nested, "")


def to_dict(config: Any) -> dict[str, Any]:
    """Returns the whole tree as plain values, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(values: Mapping[str, Any], trained: bool = False) -> Config:
    """Returns the config of a `config.json`; what earlier versions stored of other models is dropped.

    Raises:
      InputError: as `override`; and, if the model is not `trained`, for an option of another one off its default.
    """
    if isinstance(model := values.get("model"), Mapping) and "name" in model:
        values = {**values, "model": models.without_foreign(model, trained)}
    return _merge(Config(), values, "")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the options of `to_dict` by their dotted names."""
    options: dict[str, Any] = {}
    for name, value in values.items():
        options |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return options


def roles() -> dict[str, Role]:
    """Returns the role of every option, those of all models included, by dotted names."""
    return dict(_roles(Config, "", STRUCTURAL))


def binding(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of `to_dict` that two runs of one folder have in common, by their dotted names.

    An option that an older config does not have counts as its default.
    """
    role = _numbers(values)
    return {**_defaults(values, role), **_deciding(values, role)}


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any], also: Role = FREE) -> list[str]:
    """Returns what differs between two configs, as `to_dict` gives them, in the options that decide numbers; readable.

    An option that a config does not have, since it is older, counts as its default. Of two models only the options that
    both have are compared, and their names.

    Args:
      also: what else options may decide that must not differ.
    """
    role = _numbers(wanted) | also
    earlier, now = ({**_defaults(wanted, role), **_deciding(each, role)} for each in (saved, wanted))
    foreign = {*_foreign(flat(saved)), *_foreign(flat(wanted))}
    names = [name for name in {**earlier, **now} if name not in foreign]
    return [f"{n}: {earlier.get(n)!r} there, {now.get(n)!r} now" for n in names if earlier.get(n) != now.get(n)]


def structure(config: Config) -> Config:
    """Returns what runs must have in common to be trained by one program: all else is at its default."""
    values, known = flat(to_dict(config)), roles()
    switched_off = {name: value for name, value in values.items() if Role.SWITCH in known[name] and not value}
    return override(Config(), _deciding(values, Role.PROGRAM | Role.CORPUS) | switched_off)


def source_of(config: Config) -> Config:
    """Returns what decides which corpus is loaded, equal for configs that share one: all else is at its default."""
    return override(Config(), _deciding(to_dict(config), Role.CORPUS))


def _numbers(values: Mapping[str, Any]) -> Role:
    """Returns what options decide that decide the numbers of this config."""
    return Role.NUMBERS | Role.SIMULATED if values["dataset"] == "simulated" else Role.NUMBERS


def _defaults(values: Mapping[str, Any], role: Role) -> dict[str, Any]:
    """Returns the defaults of the options that decide any of this, with the model that is chosen."""
    name = values["model"].get("name")
    return _deciding(to_dict(override(Config(), {"model.name": name} if name in models.MODELS else {})), role)


def _deciding(values: Mapping[str, Any], role: Role) -> dict[str, Any]:
    """Returns the options that decide any of this, by dotted names; unknown ones may. One of another model does not."""
    options, known, foreign = flat(values), roles(), _foreign(flat(values))
    deciding = [name for name in options if name not in foreign and (name not in known or known[name] & role)]
    return {name: options[name] for name in deciding}


def _foreign(options: Mapping[str, Any]) -> list[str]:
    """Returns the dotted names of the options that only other models have than the one of these options."""
    return [f"model.{name}" for name in models.foreign_options(options.get("model.name"))]


@functools.cache  # a sweep asks thousands of times
def _types_of(kind: Any) -> Mapping[str, Any]:
    """Returns the type of each field of a dataclass."""
    return typing.get_type_hints(kind)


def _roles(kind: Any, prefix: str, otherwise: Role) -> Iterator[tuple[str, Role]]:
    kinds = _types_of(kind)
    for each in fields(kind):
        name, role = prefix + each.name, role_of(each, otherwise)
        inner = [*models.MODELS.values()] if kinds[each.name] is ModelOptions else [kinds[each.name]]
        if dataclasses.is_dataclass(inner[0]):
            for group in inner:
                yield from _roles(group, f"{name}.", role)
        else:
            yield name, role


def _merge(config: Options, values: Mapping[str, Any], prefix: str) -> Options:
    kind: Any = type(config)
    if isinstance(config, ModelOptions):
        kind = models.model_named(values["name"]) if "name" in values else kind
        values = {name: value for name, value in values.items() if name != "name"}
    hints = _types_of(kind)
    kinds = {each.name: hints[each.name] for each in fields(kind)}
    changes = {}
    for name, value in values.items():
        full = prefix + name
        if name not in kinds:
            if isinstance(config, ModelOptions):
                models.refuse_foreign(kind, name)
            raise InputError(f"unknown option {full!r}; {suggestion(name, kinds, prefix)}")
        if dataclasses.is_dataclass(kinds[name]):
            require(isinstance(value, Mapping), f"{full} is a group of options, not one; give {full}.NAME=VALUE")
            changes[name] = _merge(getattr(config, name), value, f"{full}.")
        else:
            changes[name] = convert(full, value, kinds[name])
    kept = {each.name: getattr(config, each.name) for each in fields(kind) if each.init and hasattr(config, each.name)}
    return kind(**kept | changes)
