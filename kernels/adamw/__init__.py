"""AdamW over all parameters of a model in one launch.

    triton     a kernel that finds each parameter through a table of addresses

The rule itself, in NumPy, is minilm.optim.adam.adamw_update; minilm.optim.flat lays the moments out.
"""
