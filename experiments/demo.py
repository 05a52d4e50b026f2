from cmath_jax.config import *


def get_config():
    return Config(
        experiment="demo",
        linear_reference="t",
        model=ModelConfig(width=100),
        train=TrainConfig(epochs=5),
        optim=OptimConfig(learning_rate=1e-3),
    )
