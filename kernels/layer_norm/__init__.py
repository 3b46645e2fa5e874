"""Layer norm over rows.

    threaded   in NumPy, in few passes, on our own threads
    triton     a row in registers; backward in one pass over x and g for dx and both parameters

The formula and its derivative are derived in minilm.functional.normalization.
"""
