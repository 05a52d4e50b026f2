"""The two ways in which a run can fail, so that a command line can answer with the right exit code."""


class InputError(ValueError):
    """What the user gave cannot be used: a file, an option, a value. One readable line; exit code 2."""


class TrainingDivergedError(RuntimeError):
    """A loss or a gradient is no longer finite. The last good checkpoint stays; exit code 1."""


class Terminated(Exception):  # noqa: N818 - it is no error
    """The run was asked to stop, has saved, and goes on when it is started again; exit code 0."""
