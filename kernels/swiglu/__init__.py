"""SwiGLU: y = silu(gate) value, the gate of a Llama's feed-forward block.

    threaded   in NumPy, in place on blocks, on our own threads
    triton     forward and backward, each in one pass

The formula is in minilm.functional.activations.
"""
