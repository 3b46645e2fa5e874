"""The norm of the gradients of all parameters together, and their scaling by one factor: what clipping needs.

    threaded   in NumPy, on our own threads

minilm.optim.clipping has the formula, and does it array by array where no kernel does.
"""
