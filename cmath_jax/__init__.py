"""The package of CMATH: emotion recognition in multimodal conversations, in JAX and Flax.

`load_corpus` reads data, `CMATH` is the model, `fit` trains, evaluates and writes a run folder, `predict` labels new
conversations with it:

    from cmath_jax import Config, fit, load_corpus, predict

    result = fit(Config(), "runs/first")
    labels = predict("runs/first", load_corpus("simulated").splits["test"])

`predictions_frame`, `scores_frame` and `metrics_frame` make pandas frames of what came out.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmath_jax.config import Config
    from cmath_jax.data.corpus import Conversation, Corpus
    from cmath_jax.data.load import load_corpus
    from cmath_jax.models.cmath import CMATH
    from cmath_jax.models.outputs import Outputs
    from cmath_jax.prediction.answers import ConversationPredictions, Prediction
    from cmath_jax.prediction.frames import metrics_frame, predictions_frame, scores_frame
    from cmath_jax.prediction.predictor import Predictor, predict
    from cmath_jax.training.fit import fit

__version__ = "0.1.0"
__all__ = [
    "CMATH",
    "Config",
    "Conversation",
    "ConversationPredictions",
    "Corpus",
    "Outputs",
    "Prediction",
    "Predictor",
    "fit",
    "load_corpus",
    "metrics_frame",
    "predict",
    "predictions_frame",
    "scores_frame",
]

_HOMES = {
    "CMATH": "models.cmath",
    "Config": "config",
    "Conversation": "data.corpus",
    "Corpus": "data.corpus",
    "Outputs": "models.outputs",
    "Prediction": "prediction.answers",
    "ConversationPredictions": "prediction.answers",
    "Predictor": "prediction.predictor",
    "fit": "training.fit",
    "load_corpus": "data.load",
    "metrics_frame": "prediction.frames",
    "predict": "prediction.predictor",
    "predictions_frame": "prediction.frames",
    "scores_frame": "prediction.frames",
}


def __getattr__(name: str) -> Any:
    # Imported when asked for: reading a corpus needs no JAX, and a slip on the command line is answered at once.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"cmath_jax.{_HOMES[name]}"), name)
