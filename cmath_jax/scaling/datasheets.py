"""The rates of devices that are not at hand, quoted from the data sheets of their makers. None of them is measured.

TPUs: cloud.google.com/tpu/docs/v4, v5e, v5p, v6e (November 2026). Interconnect there is of both directions together, of
which one counts here. A TPU computes float32 products of full precision as six of bfloat16, so that their rate is a
sixth. GPUs: NVIDIA's data sheets of the H100 and H200 with SXM, without sparsity; float32 is that of the plain cores.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cmath_jax.scaling.roofline import Rates

BFLOAT16_PASSES = 6  # of a TPU, for one product in float32


@dataclass(frozen=True)
class Sheet:
    """The data sheet of a device.

    Attributes:
      name: as its maker calls it.
      told: how JAX calls it, or its beginning.
      flops: precision -> FLOP/s of matrix products.
      memory: bytes.
      memory_rate: bytes/s.
      link_rate: bytes/s that a device can send over all its links to others nearby.
      nearby: how many devices such links join.
      network_rate: bytes/s that a device can send to others farther away.
      clock: cycles/s, which the quoted FLOP/s imply; 0 where no compiler estimates cycles.
    """

    name: str
    told: str
    flops: Mapping[str, float]
    memory: float
    memory_rate: float
    link_rate: float
    nearby: int
    network_rate: float
    clock: float = 0.0

    def describes(self, kind: str) -> bool:
        """Whether it is that of a device of this kind: its name, or what JAX calls it, with or without a platform."""
        return kind == self.name or kind.rpartition(": ")[2].startswith(self.told)

    def rates(self, precision: str) -> Rates:
        """Returns what stands for measured rates in the roofline."""
        return Rates(self.flops[precision], self.memory_rate)

    def exchange_seconds(self, size: float, devices: int) -> float:
        """Returns the least time in which so many devices add up `size` bytes of each, in rings.

        Where links do not reach all of them, those nearby add up first, and each sends its share farther.
        """
        near = min(devices, self.nearby)
        groups = -(-devices // near)
        inside = ring(near) * size / self.link_rate
        between = ring(groups) * size / near / self.network_rate if groups > 1 else 0.0
        return max(inside, between)


def ring(devices: int) -> float:
    """Returns how often each device of a ring sends the whole of an array that they add up."""
    return 2 * (devices - 1) / devices


def _tpu(
    name: str, told: str, flops: float, memory: float, memory_rate: float, both_ways: float, nearby: int, units: int
) -> Sheet:
    """Returns the sheet of a TPU of so many matrix units; those of 256 x 256 count as four of 128 x 128."""
    rates = {"bfloat16": flops, "float32": flops / BFLOAT16_PASSES}
    return Sheet(name, told, rates, memory, memory_rate, both_ways / 2, nearby, 0.0, flops / (units * 2 * 128**2))


def _gpu(name: str, told: str, memory: float, memory_rate: float) -> Sheet:
    """Returns the sheet of a GPU of this generation: eight in a server, each with a network port of 400 Gbit/s."""
    return Sheet(name, told, {"bfloat16": 989e12, "float32": 67e12}, memory, memory_rate, 450e9, 8, 50e9)


SHEETS: Mapping[str, Sheet] = {
    "v4": _tpu("TPU v4", "TPU v4", 275e12, 32 * 2**30, 1200e9, 600e9, 4096, 8),
    "v5e": _tpu("TPU v5e", "TPU v5 lite", 197e12, 16e9, 819e9, 400e9, 256, 4),
    "v5p": _tpu("TPU v5p", "TPU v5p", 459e12, 95e9, 2765e9, 1200e9, 8960, 8),
    "v6e": _tpu("TPU v6e", "TPU v6 lite", 918e12, 32e9, 1640e9, 800e9, 256, 16),
    "h100": _gpu("H100 SXM", "NVIDIA H100 80GB HBM3", 80e9, 3350e9),
    "h200": _gpu("H200 SXM", "NVIDIA H200", 141e9, 4800e9),
}


def name_of(kind: str) -> str | None:
    """Returns the name in `SHEETS` of the data sheet of this kind of device; None for a kind that there is none of."""
    return next((name for name, sheet in SHEETS.items() if sheet.describes(kind)), None)
