"""The command line: `python -m cmath_jax.predict --checkpoint DIR INPUT [-o FILE] [--stream]`.

The function is `cmath_jax.predict`, from `cmath_jax.prediction.predictor`.
"""

import sys

from cmath_jax.prediction.command import main

if __name__ == "__main__":
    sys.exit(main())
