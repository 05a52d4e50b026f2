"""The command line: `python -m cmath_jax.predict --checkpoint DIR INPUT [-o FILE] [--stream]`.

The function is `cmath_jax.predict`, from `cmath_jax.prediction.predictor`.
"""

import sys
from types import ModuleType
from typing import Any

from cmath_jax.commands.predict import main


class _Function(ModuleType):
    """Whoever imports this module finds it where the function was: so it can be called too."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from cmath_jax.prediction.predictor import predict

        return predict(*arguments, **options)


sys.modules[__name__].__class__ = _Function

if __name__ == "__main__":
    sys.exit(main())
