"""The text of compiled programs: what is read in it, and the data sheets that it is held against."""

import pytest

from cmath_jax.scaling import report, tiles
from cmath_jax.scaling.collectives import by_kind, collectives
from cmath_jax.scaling.datasheets import SHEETS
from cmath_jax.scaling.hlo import instructions, of_step

# A step that a TPU might have: a fusion, a sum, a loop that goes five times, and what is outside of the loop of steps.
PROGRAM = """HloModule jit_of_one, is_scheduled=true

%fused (p: f32[3]) -> f32[3] {
  ROOT %inner.1 = f32[3,200]{1,0:T(8,128)} add(%p, %p), backend_config={"estimated_cycles":"77"}
}

%chunk (p: f32[16,128]) -> f32[16,128] {
  ROOT %d = f32[16,128]{1,0:T(8,128)} fusion(%p), calls=%fused, backend_config={"estimated_cycles":"10"}
}

%more (p: f32[16,128]) -> pred[] {
  ROOT %c = pred[] constant(false)
}

%body (p: (f32[4,100], f32[])) -> (f32[4,100], f32[]) {
  %a = bf16[100,4]{0,1:T(8,128)(2,1)} fusion(%p), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"1000"}
  %s = (f32[4,100]{1,0:T(8,128)S(1)}, /*index=1*/f32[]{:T(128)}) all-reduce(%a, %b), replica_groups={{0,1}}
  %g = (f32[8]{0}, f32[16]{0}) all-gather-start(%a), replica_groups=[1,2]<=[2], dimensions={0}
  %w = f32[16,128]{1,0:T(8,128)} while(%a), condition=%more, body=%chunk, backend_config={"known_trip_count":{"n":"5"}}
}

ENTRY %main (p: f32[4,100]) -> f32[4,100] {
  %before = f32[4,100]{1,0:T(8,128)} fusion(%p), calls=%fused, backend_config={"estimated_cycles":"5000"}
  %loop = (f32[4,100], f32[]) while(%before), condition=%more, body=%body
}
"""


def test_a_step_is_the_loop_without_a_known_end() -> None:
    times = {each.text.split()[0]: each.times for each in of_step(PROGRAM) if each.text.startswith("  %")}
    assert times == {"%a": 1, "%s": 1, "%g": 1, "%w": 1}
    assert [each.times for each in of_step(PROGRAM) if "%d =" in each.text] == [5]
    assert not any("%inner.1" in each.text for each in instructions(PROGRAM))
    assert len(list(instructions(PROGRAM))) == len(of_step(PROGRAM)) + 2


def test_a_program_without_a_loop_is_a_step() -> None:
    program = PROGRAM.replace(" while(%before), condition=%more, body=%body", " tuple(%before)")
    assert [each.text.split()[0] for each in of_step(program)] == ["%before", "%loop"]


@pytest.mark.parametrize(
    ("written", "groups"),
    [
        ("{{0,1},{2,3}}", [{0, 1}, {2, 3}]),
        ("[2,2]<=[4]", [{0, 1}, {2, 3}]),
        ("[2,2]<=[2,2]T(1,0)", [{0, 2}, {1, 3}]),
        ("mesh['trials'=2,'rows'=2] {'rows'}", [{0, 1}, {2, 3}]),
        ("mesh['trials'=2,'rows'=2] {'trials'}", [{0, 2}, {1, 3}]),
        ("mesh['trials'=2,'rows'=2] {'trials','rows'}", [{0, 1, 2, 3}]),
    ],
)
def test_who_exchanges_with_whom(written: str, groups: list[set[int]]) -> None:
    """As jax 0.10 and as jax 0.12 write it."""
    line = f"  %s = f32[3] all-reduce(%a), replica_groups={written}, to_apply=%add"
    (found,) = collectives(f"ENTRY %main (p: f32[3]) -> f32[3] {{\n{line}\n}}\n")
    assert found.groups == {frozenset(group) for group in groups}


def test_bytes_of_collectives_by_kind() -> None:
    """A sum gives what it takes; of a gathering what is given stands before what is got."""
    assert by_kind(collectives(PROGRAM)) == {
        "all-reduce": {"count": 1, "bytes": 4 * 400 + 4},
        "all-gather": {"count": 1, "bytes": 4 * 16},
    }
    assert by_kind([]) == {}


def test_padding_counts_the_axes_that_vary_fastest() -> None:
    """bf16 [100, 4] with the first axis fastest is kept as [8, 128], as is f32 [4, 100]; [16, 128] has none."""
    filled = 2 * 400 + 4 * 400 + 6 * 4 * 16 * 128
    whole = 2 * 1024 + 4 * 1024 + 6 * 4 * 16 * 128
    assert tiles.tile_padding(PROGRAM) == pytest.approx(1 - filled / whole)
    assert tiles.tile_padding("ENTRY %main () -> f32[] {\n  %x = f32[3]{0} add(%a, %b)\n}") is None


def test_cycles_are_those_of_a_step() -> None:
    assert tiles.estimated_cycles(PROGRAM) == 1000 + 5 * 10
    assert tiles.estimated_cycles(PROGRAM.replace("estimated_cycles", "other")) is None
    assert tiles.estimated_cycles(PROGRAM.replace('"1000"', f'"{2**63 - 1}"')) is None


@pytest.mark.parametrize("kind", SHEETS)
def test_a_ring_over_near_and_far_devices(kind: str) -> None:
    sheet = SHEETS[kind]
    assert sheet.exchange_seconds(1e6, 1) == 0
    assert sheet.exchange_seconds(1e6, 2) == pytest.approx(1e6 / sheet.link_rate)
    seconds = [sheet.exchange_seconds(1e6, devices) for devices in (2, 4, 8, 64, 256)]
    assert seconds == sorted(seconds)
    assert seconds[-1] < 3e6 / sheet.link_rate
    assert sheet.flops["float32"] < sheet.flops["bfloat16"]


def test_the_sheet_of_a_device_by_its_name() -> None:
    assert [kind for kind, sheet in SHEETS.items() if sheet.describes("tpu: TPU v5 lite")] == ["v5e"]
    assert [kind for kind, sheet in SHEETS.items() if sheet.describes("gpu: NVIDIA H200")] == ["h200"]
    assert not any(sheet.describes("cpu: Intel(R) Xeon(R)") for sheet in SHEETS.values())
    assert report.quoted({"devices": ["cpu: AMD"]}) is None
