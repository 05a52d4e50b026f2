"""Search spaces: the hyper-parameters that `experiments/tune.py` draws for a model, as data beside its options."""

from collections.abc import Sequence
from dataclasses import dataclass

from cmath_jax.errors import require, require_one_of

SCALES = ("linear", "log", "choice")
Value = float | int | bool | str


@dataclass(frozen=True)
class Dimension:
    """A hyper-parameter of a search space.

    Options that are no data of the compiled step (docs/model.md, "Populations") are better left out or given few
    values: each value is a program of its own.

    Attributes:
      name: of the option, dotted.
      values: lowest and highest for the scales `linear` and `log`, between which the density is even; all for `choice`.
      scale: `linear`, `log` or `choice`.

    Raises:
      InputError: on construction, for values that do not fit the scale.
    """

    name: str
    values: Sequence[Value]
    scale: str

    def __post_init__(self) -> None:
        require_one_of("scale", self.scale, SCALES)
        if self.scale == "choice":
            require(len(self.values) > 1, f"{self.name}: a choice has two values or more")
            return
        numbers = [each for each in self.values if not isinstance(each, str)]
        require(
            len(self.values) == len(numbers) == 2 and numbers[0] < numbers[1],
            f"{self.name}: a {self.scale} range is its lowest and its highest value, not {self.values!r}",
        )
        require(self.scale == "linear" or numbers[0] > 0, f"{self.name}: a log range begins above 0")


def dropout(low: float, high: float) -> Dimension:
    """Returns the dimension of the dropout rate; one without dropout at all is another program."""
    return Dimension("model.dropout", (low, high), "linear")


RATE = Dimension("optim.learning_rate", (2e-4, 3e-3), "log")
CLASS_WEIGHTS = Dimension("loss.class_weights", (False, True), "choice")
FOCAL = Dimension("loss.focal", (0.0, 2.5), "linear")
# Of models with a classifier for each modality, which the fused one teaches (eqs 18, 22).
DISTILLATION = (
    Dimension("loss.gamma2", (0.0, 2.0), "linear"),
    Dimension("loss.temperature", (1.0, 8.0), "log"),
)
Space = tuple[Dimension, ...]
COMMON: Space = (RATE, dropout(0.1, 0.6), CLASS_WEIGHTS)
