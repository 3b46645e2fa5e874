"""Attention, rung by rung: the same function with the same names, each rung tested against the one below.

    loops      one number at a time, forward and backward: what is computed, before any thought of speed

The textbook formula, on whole arrays, is minilm.functional.scaled_dot_product_attention.
"""
