"""Recorded solutions: the store, grading, logs of other programs, and the recordings that are shipped."""

from clear_lib.hub import require

require("rollouts", "math_verify", "pandas", "pyarrow")
