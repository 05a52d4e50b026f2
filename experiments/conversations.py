"""CMATH on conversations of one's own, by their words alone.

    python launch.py --config experiments/conversations.py --config.data.dir=DIR

DIR holds conversations.jsonl, and the features that `python -m cmath_jax.extract DIR` made of them, as examples/talk.
docs/tutorial.md is the whole way. Features of sound and video too: --config.data.modalities=tav.

On MELD's text, with features of MiniLM as it is: a second an epoch on 2 CPU cores, test weighted F1 56.86 ± 0.43 over 5
seeds; with MiniLM trained on the labels, and a longer average, 60.96 ± 0.24.
"""

from cmath_jax.config import Config, DataConfig, LossConfig, OptimConfig, TrainConfig
from cmath_jax.models.options.cmath import CMATHOptions


def get_config() -> Config:
    return Config(
        experiment="conversations",
        dataset="conversations",
        linear_reference="t",
        data=DataConfig(modalities="t"),
        model=CMATHOptions(width=200, heads=10, dropout=0.2),
        loss=LossConfig(gamma1=1.0, gamma2=1.2),
        optim=OptimConfig(learning_rate=1e-3, schedule="cosine", average=0.9),
        train=TrainConfig(epochs=10, batch_size=8, patience=0),
    )
