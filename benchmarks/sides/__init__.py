"""Two sides of a comparison, each in a process of its own: minilm, and PyTorch as the opponent.

works.py says what is done, ours.py and pytorch.py do it, process.py runs a side in its process and asks it for steps.
presets.py takes the steps of `minilm train`, without an opponent.
"""
