"""The LSTM's cell: all that is elementwise in a step of the recurrence, in one kernel.

    triton     a step forward and a step backward, and the whole sequence around them

The textbook formula, on whole arrays, is minilm.functional.lstm; its module derives the backward.
"""
