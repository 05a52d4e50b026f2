"""What XLA is told before JAX starts it. Only a program may say it, not a library: it holds for the whole process."""

import os

OPTIONS = "--xla_backend_extra_options"


def set_flags() -> None:
    """On a processor, computes several results in one pass over memory: Adam's update, above all.

    To be called before JAX looks for its devices. Options that the user has set are left alone.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if OPTIONS not in flags:
        # Unlike a flag of its own, an option that a version of XLA does not know is ignored.
        os.environ["XLA_FLAGS"] = f"{flags} {OPTIONS}=xla_cpu_use_multi_output_fusion=true".strip()
