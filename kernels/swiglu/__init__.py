"""SwiGLU: y = silu(gate) value, the gate of a Llama's feed-forward block.

    triton     forward and backward, each in one pass

The formula is in minilm.functional.activations.
"""
