"""Attention of one query per head to a long cache of keys: what generation does for each token.

    threaded   NumPy, the heads shared out among threads
    triton     the keys are split among many programs, and a second kernel combines what they found

It is the attention of minilm.kernels.attention and gives the same numbers; only the division of labour differs.
"""
