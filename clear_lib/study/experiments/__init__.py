"""The experiments of the book: a pool of recorded questions, streams from it, and every policy at every budget."""

# ruff: noqa: F403
from clear_lib.study.experiments.effects import *
from clear_lib.study.experiments.grid import *
from clear_lib.study.experiments.pool import *
from clear_lib.study.experiments.told import *
