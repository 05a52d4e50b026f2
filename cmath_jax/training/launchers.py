"""The variables by which launchers tell a process whether it is one of several, and which.

Slurm, Open MPI and the TPU pods of GKE are known, and the variables of JAX itself. Variables that are half there are
refused by name: to guess would mean to wait in vain for processes that nobody has started.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cmath_jax.errors import InputError
from cmath_jax.io.spelled import check_address

ALONE = "to train as one process, give parallel.distributed=false"
STEP, TASKS, STEP_TASKS = "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"
SIZE, RANK, LOCAL_RANK, ORTE = (
    *("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    "OMPI_MCA_orte_hnp_uri",
)


@dataclass(frozen=True)
class Launched:
    """The place of this process among several.

    Attributes:
      launcher: what has started them; for messages.
      processes: how many there are; None where only JAX knows.
      process: which one this is, from 0; None where only JAX knows.
    """

    launcher: str
    processes: int | None = None
    process: int | None = None


def launched(variables: Mapping[str, str], pid: int) -> Launched | None:
    """Returns what a launcher says of this process; None where it trains alone.

    Args:
      variables: of the environment.
      pid: of this process.

    Raises:
      InputError: for a variable that is missing beside others, or holds something else than it should; names it.
    """
    found = _slurm(variables, pid) or _open_mpi(variables) or _tpu(variables)
    if address := variables.get("JAX_COORDINATOR_ADDRESS"):
        check_address("the variable JAX_COORDINATOR_ADDRESS", address)
        found = found or Launched("JAX_COORDINATOR_ADDRESS")
    if found:
        check_settings_of_jax(variables)
    return found


def check_settings_of_jax(variables: Mapping[str, str]) -> None:
    """Raises InputError for a variable that `jax.distributed` reads and cannot use."""
    if devices := variables.get("JAX_LOCAL_DEVICE_IDS"):
        for number in devices.split(","):
            _number({"JAX_LOCAL_DEVICE_IDS": number}, "JAX_LOCAL_DEVICE_IDS", "JAX")
    if "JAX_PARTITION_INDEX" in variables:
        _number(variables, "JAX_PARTITION_INDEX", "JAX")
    if variables.get("JAX_COORDINATOR_PORT"):
        check_address("the variable JAX_COORDINATOR_PORT", f"HOST:{variables['JAX_COORDINATOR_PORT']}")
    if bound := variables.get("JAX_COORDINATOR_BIND_ADDRESS"):
        check_address("the variable JAX_COORDINATOR_BIND_ADDRESS", bound)


def _slurm(variables: Mapping[str, str], pid: int) -> Launched | None:
    if STEP not in variables:
        # A shell of salloc or a script of sbatch; only srun starts several, and says so by the nodes of its step.
        if variables.get("SLURM_PROCID", "0") not in ("0", ""):
            raise _missing("Slurm", STEP, variables, "SLURM_PROCID")
        return None
    # In a shell that salloc opens by itself, SLURM_NTASKS is that of the job, of which this is one task.
    counted = STEP_TASKS if STEP_TASKS in variables else TASKS
    if counted not in variables or _number(variables, counted, "Slurm", least=1) == 1:
        return None
    if "SLURM_PTY_PORT" in variables and variables.get("SLURM_TASK_PID") != str(pid):
        return None  # what was typed into a shell of srun --pty was typed once
    processes = int(variables[counted])
    process = _rank(variables, "SLURM_PROCID", counted, "Slurm")
    _rank(variables, "SLURM_LOCALID", counted, "Slurm")
    if not variables.get("JAX_COORDINATOR_PORT"):
        _number(variables, "SLURM_JOB_ID", "Slurm")
    if not variables[STEP].strip():
        raise _wrong("Slurm", STEP, variables[STEP], "the names of nodes")
    return Launched("Slurm", processes, process)


def _open_mpi(variables: Mapping[str, str]) -> Launched | None:
    if SIZE not in variables:
        if variables.get(RANK, "0") not in ("0", ""):
            raise _missing("Open MPI", SIZE, variables, RANK)
        return None
    if _number(variables, SIZE, "Open MPI", least=1) == 1:
        return None
    process = _rank(variables, RANK, SIZE, "Open MPI")
    _rank(variables, LOCAL_RANK, SIZE, "Open MPI")
    if ORTE in variables and "tcp" not in variables[ORTE]:
        raise _wrong("Open MPI", ORTE, variables[ORTE], "the address of mpirun")
    return Launched("Open MPI", int(variables[SIZE]), process)


def _tpu(variables: Mapping[str, str]) -> Launched | None:
    name = "TPU_PROCESS_ADDRESSES" if "TPU_PROCESS_ADDRESSES" in variables else "TPU_WORKER_HOSTNAMES"
    hosts = variables.get(name, "").split(",")
    if len(hosts) == 1:
        return None
    if not all(host.strip() for host in hosts):
        raise _wrong("the TPU pod", name, variables[name], "names of hosts, with commas between them")
    process = _number(variables, "TPU_WORKER_ID", "the TPU pod", beside=name)
    if process >= len(hosts):
        raise _wrong("the TPU pod", "TPU_WORKER_ID", variables["TPU_WORKER_ID"], f"less than {len(hosts)}, as {name}")
    slices = variables.get("MEGASCALE_NUM_SLICES", "1")
    return Launched("the TPU pod", len(hosts) if slices == "1" else None, process if slices == "1" else None)


def _rank(variables: Mapping[str, str], name: str, counted: str, launcher: str) -> int:
    rank = _number(variables, name, launcher, beside=counted)
    if rank >= int(variables[counted]):
        raise _wrong(launcher, name, variables[name], f"less than {counted}, which is {variables[counted]}")
    return rank


def _number(variables: Mapping[str, str], name: str, launcher: str, least: int = 0, beside: str = "") -> int:
    if name not in variables:
        raise _missing(launcher, name, variables, beside)
    value = variables[name]
    if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value) >= least):
        raise _wrong(launcher, name, value, f"a number from {least}")
    return int(value)


def _missing(launcher: str, name: str, variables: Mapping[str, str], beside: str) -> InputError:
    told = f" beside {beside}={variables[beside]}" if beside in variables else ""
    return InputError(f"the variable {name} of {launcher} is missing{told}: unset both, or set it; {ALONE}")


def _wrong(launcher: str, name: str, value: str, wanted: str) -> InputError:
    what = f"holds {value!r:.80}" if value else "is empty"
    return InputError(f"the variable {name} of {launcher} {what}, not {wanted}: unset it, or set it right; {ALONE}")
