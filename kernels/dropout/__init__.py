"""The masks of dropout: which elements are kept.

    threaded   in NumPy, on our own threads

minilm.random has the generator, Philox4x32-10, as the paper writes it.
"""
