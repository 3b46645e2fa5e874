"""Activations of single numbers, for kernels to use inside: the epilogue of a product, the gate of SwiGLU.

triton     each with its derivative
"""
