"""Makes the model of a finished run: that of the best epoch of the best seed, both by the validation score."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from cmath_jax.config import Config
from cmath_jax.data.corpus import SPLITS, Corpus
from cmath_jax.data.standardize import Standardizer
from cmath_jax.prediction.card import license_of
from cmath_jax.prediction.trained import Facts, TrainedModel
from cmath_jax.results import summary

PACKAGES = ("jax", "flax", "numpy")


def trained_model(
    config: Config,
    corpus: Corpus,
    standardizer: Standardizer,
    params: Any,
    seeds: Sequence[summary.SeedResult],
    result: Mapping[str, Any],
) -> TrainedModel:
    """Returns the model with everything that prediction needs.

    Args:
      params: of `results.best_seed(seeds)`.
      result: the content of `result.json`.
    """
    chosen, modalities = summary.best_seed(seeds), config.data.modalities
    scores = {"validation": chosen.validation, "test": chosen.test}
    return TrainedModel(
        config=config,
        classes=corpus.classes,
        speakers=corpus.speakers,
        dims={m: d for m, d in corpus.dims.items() if m in modalities},
        extraction={m: settings for m, settings in corpus.extraction.items() if m in modalities},
        standardizer=standardizer.only(modalities),
        temperature=chosen.calibration.temperature,
        facts=Facts(
            name=config.experiment,
            dataset=corpus.name,
            source=corpus.source,
            license=license_of(corpus.name, corpus.license),
            fingerprint=corpus.fingerprint(),
            utterances={split: int(corpus.class_counts(split).sum()) for split in SPLITS},
            seed=chosen.seed,
            epoch=summary.best_epoch(chosen.history),
            seeds=len(seeds),
            parameters=chosen.parameters,
            scores={s: {"accuracy": x.accuracy, "weighted_f1": x.weighted_f1} for s, x in scores.items()}
            | {"majority": result["diagnostics"]["majority"]},
            f1=dict(zip(corpus.classes, chosen.test.f1_c.tolist(), strict=True)),
            calibration=chosen.calibration.error["test"],
            versions={name: importlib.metadata.version(name) for name in PACKAGES},
            circumstances={name: result[name] for name in ("model", "modalities", "features")},
        ),
        params=params,
    )
