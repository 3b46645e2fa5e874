"""How do we know that a gradient is right? Finite differences, and checks of the checker.

    gradcheck     element by element against central differences; dual_test: one number against one number
    samples, samples_elementary, samples_fused
                  for every registered operation, calls on which to check it
    random_graphs whole graphs of random operations: shared nodes, dead branches, deep chains
    planting      makes the vjp of an operation wrong on purpose: what the checker must reject
    timing        how long a call takes, and on which machine: what every benchmark measures with

    from minilm.testing import gradcheck
    gradcheck(lambda x, w: (x @ w).tanh(), [x, w])      # True, or an error that names the element
"""

from minilm.testing.gradcheck import GradientError, dual_test, gradcheck, worst_error
from minilm.testing.planting import CORRUPTIONS, planted
from minilm.testing.random_graphs import random_graph
from minilm.testing.samples import (
    SAMPLES,
    Leaf,
    Result,
    Sample,
    add_sample,
    check_operations,
    check_samples,
    leaf,
)

__all__ = [
    "CORRUPTIONS",
    "SAMPLES",
    "GradientError",
    "Leaf",
    "Result",
    "Sample",
    "add_sample",
    "check_operations",
    "check_samples",
    "dual_test",
    "gradcheck",
    "leaf",
    "planted",
    "random_graph",
    "worst_error",
]
