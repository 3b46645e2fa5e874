"""The sum of the rows of a matrix: the gradient of every bias, and the last step of a norm's weight gradient.

    triton     in two stages, so that the order of the sum is fixed
"""
