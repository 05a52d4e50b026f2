"""The training of models, from a corpus and a config to a run folder."""
