"""The devices that a program can be compiled for without having them: `tpu:v5e:4x4`, `cuda:h100:8`.

Compilers need no device, but a description of it. libtpu has those of its TPUs; XLA is told of a GPU by a text. Both
are asked in a process of their own (`compiled.py`), whose environment is `Target.environment_variables`.
"""

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cmath_jax.errors import InputError, installs, require
from cmath_jax.scaling.datasheets import SHEETS, Sheet

_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_DEEP = ("1x1x1", "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8")
# The slices of each TPU, up to 256 devices, in their order.
SLICES: Mapping[str, tuple[str, ...]] = {"v4": _DEEP, "v5e": _FLAT, "v5p": _DEEP, "v6e": _FLAT}
SERVER = 8  # GPUs
MOST_GPUS = 256
PACKAGES = {"tpu": "libtpu", "cuda": "jax_cuda13_plugin"}  # that compile, as they are imported
# What XLA has to know of a Hopper GPU, with gaps for its memory and its name.
_HOPPER = """
gpu_device_info {{
  cuda_compute_capability {{ major: 9 }}
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  l2_cache_size: 52428800 device_memory_size: {memory} memory_bandwidth: {rate}
  device_vendor: "NVIDIA Corporation" name: "{name}"
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0" dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{name}"
"""


@dataclass(frozen=True)
class Target:
    """A number of equal devices, which are joined in a known way.

    Attributes:
      platform: tpu or cuda.
      kind: one of `datasheets.SHEETS`.
      shape: of TPUs a slice, as 4x4; of GPUs their number.
    """

    platform: str
    kind: str
    shape: str

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Returns the target of that name. Raises InputError for one that there is not, and says which there are."""
        platform, _, rest = text.partition(":")
        kind, _, shape = rest.partition(":")
        kinds = {f"tpu:{kind}" for kind in SLICES} | {f"cuda:{kind}" for kind in SHEETS if kind not in SLICES}
        known = ", ".join(sorted(kinds, reverse=True))
        require(
            f"{platform}:{kind}" in kinds,
            f"compile_for={text!r} is not of a known kind: there are {known}, with a slice or a number of GPUs behind "
            "it, as in tpu:v5e:4x4 and cuda:h100:8",
        )
        if platform == "tpu":
            slices = SLICES[kind]
            require(shape in slices, f"compile_for={text!r}: the slices of {kind} are {', '.join(slices)}")
        else:
            whole = shape.isdecimal() and (1 <= int(shape) <= SERVER or int(shape) % SERVER == 0)
            require(
                whole and int(shape) <= MOST_GPUS,
                f"compile_for={text!r}: the number of GPUs is 1 to {SERVER}, or a multiple of {SERVER} up to "
                f"{MOST_GPUS}, a server each",
            )
        return cls(platform, kind, shape)

    def __str__(self) -> str:
        return f"{self.platform}:{self.kind}:{self.shape}"

    @property
    def sheet(self) -> Sheet:
        return SHEETS[self.kind]

    @property
    def count(self) -> int:
        """Returns how many devices there are."""
        return math.prod(map(int, self.shape.split("x")))

    @property
    def distribution(self) -> str:
        """Returns the package that compiles for it, as it is installed."""
        return PACKAGES[self.platform].replace("_", "-")

    def part(self, devices: int) -> "Target":
        """Returns the smallest slice of it, or servers, with so many devices; for 0, and for too many, all of it."""
        if not 0 < devices < self.count:
            return self
        if self.platform == "cuda":
            whole = devices if devices <= SERVER else -(-devices // SERVER) * SERVER
            return Target(self.platform, self.kind, str(whole))
        parts = [Target(self.platform, self.kind, shape) for shape in SLICES[self.kind]]
        return next(part for part in parts if part.count >= devices)

    def check_installed(self) -> None:
        """Raises InputError where the package is missing that compiles for it."""
        require(
            importlib.util.find_spec(PACKAGES[self.platform]) is not None,
            f"compile_for={self}: {self.distribution} is not installed; {installs('aot')}",
        )

    def environment_variables(self) -> dict[str, str]:
        """Returns what a process needs that compiles: it computes nothing, and asks no cloud where it is."""
        common = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
        if self.platform == "tpu":
            return common | {
                "TPU_SKIP_MDS_QUERY": "1",
                "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # which silences a warning, whatever the target is
                "TPU_WORKER_HOSTNAMES": "localhost",
                "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
            }
        # To choose among kernels they would be timed on a device; those of cuBLAS take products of all sizes.
        return common | {"XLA_FLAGS": "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"}

    def devices(self) -> tuple[Any, ...]:
        """Returns the devices, which can be compiled for and nothing else; in an environment as above.

        Raises InputError where the compiler does not know them.
        """
        from jax.experimental import topologies

        try:
            if self.platform == "tpu":
                alone: dict[str, Any] = {"chips_per_host_bounds": [1, 1, 1]} if self.count == 1 else {}
                name = f"{self.kind}:{self.shape}"
                found = topologies.get_topology_desc(platform="tpu", topology_name=name, **alone)
            else:
                near = min(self.count, SERVER)
                sheet = self.sheet
                described = _HOPPER.format(memory=int(sheet.memory), rate=int(sheet.memory_rate), name=sheet.name)
                found = topologies.get_topology_desc(
                    platform="cuda",
                    topology_name=str(self),
                    target_config=described,
                    topology=f"1x{self.count // near}x{near}",
                )
        except (RuntimeError, ValueError) as error:
            raise InputError(f"compile_for={self}: the compiler does not know it ({error})".splitlines()[0]) from error
        return tuple(found.devices)
