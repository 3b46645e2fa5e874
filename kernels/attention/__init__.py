"""Attention, rung by rung: the same function with the same names, each rung tested against the one below.

    loops             one number at a time, forward and backward: what is computed, before any thought of speed
    blocked           NumPy, by blocks of keys: softmax in one pass, and a backward that recomputes the weights
    threaded          NumPy as fast as it gets: blocks in the cache, several heads at a time, threads; cutting says how
    triton_forward    the same loop as a GPU kernel: a program for each block of queries
    triton_backward   two kernels, one that owns keys and one that owns queries, so that nothing is added twice
    triton            the host function that launches them: the operation as a backend calls it

The textbook formula, on whole arrays, is minilm.functional.scaled_dot_product_attention. `arguments` checks what the
rungs above `loops` are given. One query against a long cache is a rung of its own: minilm.kernels.decoding.
"""
