"""The gated recurrent unit over a whole sequence.

    threaded   in NumPy, on our own threads

The textbook formula, on whole arrays, is minilm.functional.gru; its module derives the backward.
"""
