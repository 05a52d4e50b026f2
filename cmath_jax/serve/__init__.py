"""The page to try a trained model, and its JSON API: `python -m cmath_jax.serve --checkpoint DIR` (docs/serving.md)."""
