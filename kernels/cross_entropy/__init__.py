"""Cross-entropy over a large vocabulary, rung by rung, without ever storing the probabilities.

    blocked    NumPy: one tile of rows and classes at a time, with a running maximum and a running sum
    triton     the same as two kernels: a program a row forward, a program a tile backward

The textbook formula, on whole arrays, is minilm.functional.cross_entropy.
"""
