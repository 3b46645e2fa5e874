"""Activations of single numbers, for kernels to use inside: the epilogue of a product, the gate of SwiGLU.

    threaded   in NumPy, on a block in the cache: the value in place, and the slope for the backward pass
    triton     on a tile in registers, each with its derivative
"""
