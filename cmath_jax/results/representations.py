"""Makes `representations.npz`: what a trained model makes of each test utterance, for pictures of it."""

import numpy as np
from sklearn.decomposition import PCA

from cmath_jax.config import Config
from cmath_jax.data.corpus import Corpus
from cmath_jax.data.standardize import Standardizer
from cmath_jax.results.summary import SeedResult

MOST_COMPONENTS = 50  # of the input features; a map of the plane needs no more


def representations(
    corpus: Corpus, standardizer: Standardizer, config: Config, seed: SeedResult
) -> dict[str, np.ndarray]:
    """Returns arrays with a row per test utterance, in the order of `predictions.jsonl`, all of them float32.

    Returns:
      `fused_nd`: the mean of the fused Gaussian; `raw_np`: principal components of the scaled features that went in;
      `gate_{centre}_{modality}_n`: the mean weight of each gate over features.
    """
    test = standardizer.apply(corpus.splits["test"])
    x_nd = np.concatenate([np.hstack([each.features[m] for m in config.data.modalities]) for each in test])
    components = PCA(min(MOST_COMPONENTS, *x_nd.shape), svd_solver="randomized", random_state=0)
    # What is missing gets the mean.
    arrays = {"fused_nd": seed.evaluation.fused, "raw_np": components.fit_transform(np.nan_to_num(x_nd))}
    for centre, gates in seed.evaluation.gates.items():
        arrays |= {f"gate_{centre}_{m}_n": weight_n for m, weight_n in gates.items()}
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}
