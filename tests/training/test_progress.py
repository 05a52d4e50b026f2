"""What a person sees of training."""

import io
from typing import Any

from cmath_jax.training.progress import Progress


def row(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "train": {"loss": 2.0}, "validation": {"weighted_f1": 40.0 + epoch}, "seconds": 1.5}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_lines_in_a_file_and_a_bar_on_a_terminal() -> None:
    lines, bar = io.StringIO(), Terminal()
    for file in (lines, bar):
        with Progress("seed 3", epochs=2, total=4, done=0, file=file) as progress:
            for epoch in (1, 2):
                progress.steps(1, [1.5, 1.0])
                progress.steps(1, [1.0])
                progress.epoch("seed 3", row(epoch))
    assert lines.getvalue().count("\n") == 2
    assert "seed 3  epoch 1/2  loss 2.000  validation F1 41.00  1.5 s" in lines.getvalue()
    assert "\r" not in lines.getvalue()
    for word in ("seed 3", "4/4", "loss 1.000", "validation F1 41.00"):
        assert word in bar.getvalue()
