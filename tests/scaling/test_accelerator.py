"""The comparison of measured steps with compiled ones, and processes that share devices."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.accelerator import compared, share_the_device, table, target_of
from cmath_jax.errors import InputError


@pytest.mark.parametrize(
    ("kind", "target"),
    [("NVIDIA H100 80GB HBM3", "cuda:h100:1"), ("NVIDIA H200", "cuda:h200:1"), ("TPU v5 lite", "tpu:v5e:1x1")],
)
def test_a_device_is_compiled_for_by_its_data_sheet(kind: str, target: str) -> None:
    assert str(target_of(kind)) == target


def test_a_device_without_a_data_sheet_is_named() -> None:
    with pytest.raises(InputError, match=r"no data sheet of this device, TFRT_CPU, .* H100 SXM, H200 SXM"):
        target_of("TFRT_CPU")


def result(**points: Any) -> dict[str, Any]:
    return {"studies": [{"kind": "length", "points": points}]}


def test_steps_stand_beside_the_bounds_of_the_same_points() -> None:
    measured = result(a={"numbers": {"step_median": 3e-3}}, b={"numbers": {"step_median": 4e-3}}, c={"reason": "no"})
    compiled = result(
        a={"numbers": {"bound": 1e-3, "cycle_seconds": 2e-3}},
        b={"numbers": {"bound": 2e-3, "cycle_seconds": None}},
        c={"numbers": {"bound": 1e-3, "cycle_seconds": None}},
    )
    lines = table(compared(measured, compiled)).splitlines()
    assert lines[2:] == ["| length | a | 3 | 1 | 3.00 | 2 | 1.50 |", "| length | b | 4 | 2 | 2.00 | – | – |"]


@pytest.mark.slow
def test_processes_say_how_they_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    assert share_the_device(tmp_path / "run") == ["process 0: trained to the end", "process 1: trained to the end"]
