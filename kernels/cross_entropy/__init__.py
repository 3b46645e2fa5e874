"""Cross-entropy over a large vocabulary, rung by rung, without ever storing the probabilities.

    blocked    NumPy: one tile of rows and classes at a time, with a running maximum and a running sum
    threaded   rows shared out among our threads, the maximum only where it is needed
    triton     as blocked, in two kernels: a program a row forward, a program a tile backward

The textbook formula, on whole arrays, is minilm.functional.cross_entropy.
"""
