"""GELU, element by element.

    cupy       forward and backward as one kernel each, of a line of C
"""
