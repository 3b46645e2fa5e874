"""AdamW over all parameters of a model at once.

    threaded   in NumPy, on our own threads: the row of all parameters cut into blocks
    triton     one launch: a kernel that finds each parameter through a table of addresses

The rule itself, in NumPy, is minilm.optim.adam.adamw_update; minilm.optim.flat lays the moments out.
"""
