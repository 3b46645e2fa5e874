"""Softmax and its logarithm over rows of scores.

    threaded   in NumPy, in place on blocks, on our own threads
    triton     a row at once where it fits into registers, else online, block by block

The textbook formula, on whole arrays, is minilm.functional.softmax.
"""
