"""The built-in corpus."""

from dataclasses import dataclass

from cmath_jax.data.catalog.source import Options, prepared
from cmath_jax.data.corpus import Corpus
from cmath_jax.data.sources.simulate import simulate


@dataclass(frozen=True)
class BuiltIn:
    """The source `simulated`."""

    def check(self, options: Options) -> None:
        """Finds nothing wrong: it needs no files."""

    def load(self, options: Options) -> Corpus:
        """Returns the conversations that the options of the simulation describe."""
        if not options.stream:
            return simulate(options.simulation)
        from cmath_jax.data.prepared.builders import Simulated, simulation_config

        config = simulation_config(options.simulation)
        # TFDS refuses a second config of the name that the one with the default options has.
        config = next((known for known in Simulated.BUILDER_CONFIGS if known.name == config.name), config)
        return prepared(Simulated(config=config, data_dir=options.prepared_dir or None), stream=True)
