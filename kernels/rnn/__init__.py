"""Elman's recurrent layer over a whole sequence, and what all recurrent operations share on the CPU.

    threaded   the layer, in NumPy on our own threads
    sequence   rows of the batch on threads of their own, and products in panels: for `lstm_cell` and `gru` as well

The textbook formula, on whole arrays, is minilm.functional.rnn; its module derives the backward.
"""
