"""Training as this field does it, a step at a time, for `benchmarks.single_device`."""

import time
from functools import partial
from itertools import chain, islice, repeat

import torch

from benchmarks.torch_batches import make_loader
from benchmarks.torch_cmath import CMATH, train_step
from cmath_jax.config import Config
from cmath_jax.data.corpus import MODALITIES, Corpus
from cmath_jax.data.standardize import Standardizer
from cmath_jax.models.options.cmath import CMATHOptions


class Side:
    """A run of the given config, in eager PyTorch, on a GPU if PyTorch has one."""

    def __init__(self, config: Config, corpus: Corpus) -> None:
        torch.manual_seed(0)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # Products of float32 are of float32 everywhere, as on the other side; those of convolutions only if told.
        torch.backends.cudnn.allow_tf32 = False
        assert isinstance(config.model, CMATHOptions)
        self._config = config
        train = Standardizer.of(corpus, config.data.standardize).apply(corpus.splits["train"])
        modalities = "".join(m for m in MODALITIES if m in config.data.modalities)
        self._model = CMATH(
            {m: corpus.dims[m] for m in modalities},
            len(corpus.classes),
            corpus.speakers,
            width=config.model.width,
            heads=config.model.heads,
            dropout=config.model.dropout,
            max_length=max(map(len, train)),
            kernel=config.model.kernel,
        ).to(self._device)
        self._optimizer = torch.optim.Adam(self._model.parameters(), config.optim.learning_rate)
        loader = make_loader(train, modalities, config.train.batch_size)
        self.steps_per_epoch = len(loader)
        self._batches = chain.from_iterable(repeat(loader))
        self._losses: list[float] = []

    def advance(self, steps: int) -> tuple[int, float]:
        """So many steps. Returns how many, and their seconds."""
        began = time.perf_counter()
        config = self._config
        step = partial(train_step, gamma1=config.loss.gamma1, gamma2=config.loss.gamma2, precision=config.precision)
        for batch in islice(self._batches, steps):
            terms = step(self._model, batch, self._optimizer)
            self._losses.append(terms["loss"].item())  # waits for the device
        return steps, time.perf_counter() - began

    def device_peak(self) -> int | None:
        """Bytes of memory that the device has held at most; None where it is the processor."""
        return torch.cuda.max_memory_allocated() if self._device.type == "cuda" else None
