"""What launchers say of a process, whole, half and garbled: alone, one of several, or a line that names a variable."""

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax._src.clusters.ompi_cluster import OmpiCluster
from jax._src.clusters.slurm_cluster import SlurmCluster

from cmath_jax.config import ParallelConfig
from cmath_jax.errors import InputError
from cmath_jax.io.spelled import check_address
from cmath_jax.training.launchers import Launched, launched

TASK = {
    **{"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[1-2]", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"},
    **{"SLURM_PROCID": "2", "SLURM_LOCALID": "1", "SLURM_TASK_PID": "99"},
}
RANK = {
    **{"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
    **{"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"},
}
POD = {"TPU_WORKER_HOSTNAMES": "a,b,c", "TPU_WORKER_ID": "1"}
NAMES = [
    *TASK,
    *RANK,
    *POD,
    "SLURM_PTY_PORT",
    "JAX_COORDINATOR_ADDRESS",
    "JAX_COORDINATOR_PORT",
    "JAX_LOCAL_DEVICE_IDS",
]


def without(variables: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in names}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        (TASK, Launched("Slurm", 4, 2)),
        (RANK, Launched("Open MPI", 4, 3)),
        (without(RANK, "OMPI_MCA_orte_hnp_uri"), Launched("Open MPI", 4, 3)),  # version 5
        (POD, Launched("the TPU pod", 3, 1)),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, Launched("JAX_COORDINATOR_ADDRESS")),
        ({"JAX_COORDINATOR_ADDRESS": ""}, None),
        # A shell of salloc, and a script of sbatch, which asked for several tasks and have started none.
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": ""}, None),
        # A shell that salloc has opened on a node: a step of one task in a job of four.
        (TASK | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
        # What is typed into a shell of srun --pty, and what srun --pty starts itself.
        (TASK | {"SLURM_PTY_PORT": "4000", "SLURM_PROCID": "0", "SLURM_TASK_PID": "12"}, None),
        (TASK | {"SLURM_PTY_PORT": "4000", "SLURM_PROCID": "0"}, Launched("Slurm", 4, 0)),
        (without(TASK, "SLURM_STEP_NUM_TASKS"), Launched("Slurm", 4, 2)),
        (without(TASK, "SLURM_STEP_NUM_TASKS") | {"SLURM_NTASKS": "1", "SLURM_PROCID": ""}, None),
        (without(TASK, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), None),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"TPU_WORKER_HOSTNAMES": ""}, None),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
    ],
    ids=str,
)
def test_launchers_are_seen(variables: dict[str, str], expected: Launched | None) -> None:
    assert launched(variables, 99) == expected


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (without(TASK, "SLURM_PROCID"), "the variable SLURM_PROCID of Slurm is missing beside SLURM_STEP_NUM_TASKS=4"),
        (without(TASK, "SLURM_LOCALID"), "SLURM_LOCALID of Slurm is missing"),
        (without(TASK, "SLURM_JOB_ID"), "SLURM_JOB_ID of Slurm is missing"),
        (TASK | {"SLURM_STEP_NUM_TASKS": ""}, "SLURM_STEP_NUM_TASKS of Slurm is empty"),
        (without(TASK, "SLURM_STEP_NUM_TASKS") | {"SLURM_NTASKS": ""}, "SLURM_NTASKS of Slurm is empty"),
        (TASK | {"SLURM_PROCID": "two"}, "SLURM_PROCID of Slurm holds 'two', not a number"),
        (TASK | {"SLURM_PROCID": "4"}, "SLURM_PROCID of Slurm holds '4', not less than SLURM_STEP_NUM_TASKS"),
        (TASK | {"SLURM_STEP_NODELIST": ""}, "SLURM_STEP_NODELIST of Slurm is empty"),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "1"}, "SLURM_STEP_NODELIST of Slurm is missing beside SLURM_PROCID=1"),
        (without(RANK, "OMPI_COMM_WORLD_RANK"), "OMPI_COMM_WORLD_RANK of Open MPI is missing"),
        (without(RANK, "OMPI_COMM_WORLD_SIZE"), "OMPI_COMM_WORLD_SIZE of Open MPI is missing"),
        (RANK | {"OMPI_COMM_WORLD_SIZE": ""}, "OMPI_COMM_WORLD_SIZE of Open MPI is empty"),
        (RANK | {"OMPI_COMM_WORLD_SIZE": "0"}, "OMPI_COMM_WORLD_SIZE of Open MPI holds '0'"),
        (RANK | {"OMPI_MCA_orte_hnp_uri": "x"}, "OMPI_MCA_orte_hnp_uri of Open MPI holds 'x'"),
        (without(POD, "TPU_WORKER_ID"), "TPU_WORKER_ID of the TPU pod is missing"),
        (POD | {"TPU_WORKER_ID": "3"}, "TPU_WORKER_ID of the TPU pod holds '3'"),
        (POD | {"TPU_WORKER_HOSTNAMES": "a,"}, "TPU_WORKER_HOSTNAMES of the TPU pod holds 'a,'"),
        ({"JAX_COORDINATOR_ADDRESS": "a"}, "the variable JAX_COORDINATOR_ADDRESS='a' is not HOST:PORT"),
        (TASK | {"JAX_LOCAL_DEVICE_IDS": "0,x"}, "JAX_LOCAL_DEVICE_IDS of JAX holds 'x'"),
        (TASK | {"JAX_COORDINATOR_PORT": "x"}, "JAX_COORDINATOR_PORT"),
    ],
)
def test_half_of_a_launcher_is_refused_by_name(variables: dict[str, str], words: str) -> None:
    with pytest.raises(InputError) as refused:
        launched(variables, 99)
    assert words in str(refused.value)


VALUES = st.sampled_from(["", "0", "1", "2", "4", "-1", "x", "1.5", "²", "a,b", "a:1", "1531576320.0;tcp://10.0.0.1:3"])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([{}, TASK, RANK, POD]), st.dictionaries(st.sampled_from(NAMES), VALUES | st.none(), max_size=6))
def test_any_variables_end_in_a_sentence_or_in_what_jax_understands(whole: dict[str, str], changes: Any) -> None:
    variables = {name: value for name, value in {**whole, **changes}.items() if value is not None}
    try:
        found = launched(variables, 99)
    except InputError as refused:
        line = str(refused)
        assert "\n" not in line and any(name in line for name in NAMES)
        return
    if found is None or found.processes is None:
        return
    assert found.process is not None and 0 <= found.process < found.processes and found.processes > 1
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name in NAMES]:
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        for launcher, cluster in (("Slurm", SlurmCluster), ("Open MPI", OmpiCluster)):
            # Open MPI 5 tells no address, and JAX 0.12 asks mpi4py there.
            told = launcher == "Slurm" or "OMPI_MCA_orte_hnp_uri" in variables
            if found.launcher == launcher and told and cluster.is_env_present():
                assert cluster.get_local_process_id() is not None
                port = variables.get("JAX_COORDINATOR_PORT") or None
                assert ":" in cluster.get_coordinator_address(timeout_secs=1, override_coordinator_port=port)


@pytest.mark.parametrize("address", ["a:1", "10.0.0.1:65535", "[::1]:8482", "iemocap-0.iemocap:1234"])
def test_addresses(address: str) -> None:
    check_address("x", address)
    ParallelConfig(distributed=True, coordinator=address, num_processes=2, process_id=0)


@pytest.mark.parametrize("address", ["a", "a:", ":1", "a:b", "a:0", "a:65536", "::1:8482", "a:-1", "a:²", " "])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(InputError, match="is not HOST:PORT"):
        ParallelConfig(distributed=True, coordinator=address, num_processes=2, process_id=0)
