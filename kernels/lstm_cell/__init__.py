"""The LSTM's cell: all that is elementwise in a step of the recurrence.

    threaded   in NumPy, on our own threads: each takes its rows through all steps
    triton     a step forward and a step backward as one kernel each, and the whole sequence around them

The textbook formula, on whole arrays, is minilm.functional.lstm; its module derives the backward.
"""
