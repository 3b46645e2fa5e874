"""Faster ways to compute the fused operations, as a ladder: a folder an operation, a file a rung.

    attention/loops       the formula, one number at a time: what is computed, before any thought of speed

The same names stand for the same things on every rung, and each rung is tested against the one below. The
textbook form of an operation stands in `minilm/functional`; here are only other ways to the same numbers.

Installed as `minilm.kernels`, yet nothing here imports anything of minilm: kernels take and return arrays,
never Tensors. `minilm.backend` loads them by name when it is asked to.
"""
