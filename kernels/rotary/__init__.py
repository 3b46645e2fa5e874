"""Rotary positions: pairs of channels turned by angles that grow with the position.

    triton     both layouts of the pairs, forward and backward by one kernel

The formula is in minilm.functional.positions.
"""
