"""RMS norm over rows, alone and of a sum (the residual stream plus what a block adds to it).

    threaded   in NumPy, in few passes, on our own threads
    triton     a row in registers, as layer norm

The formula and its derivative are derived in minilm.functional.normalization.
"""
