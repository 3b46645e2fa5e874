"""The product of matrices, rung by rung: y = a b, with da = g bᵀ and db = aᵀ g.

    loops      one number at a time: each number of a and b is fetched again for every product
    blocked    tile by tile, in NumPy: a tile that has been fetched is used many times; how many bytes that saves
    threaded   NumPy on our own threads, and with a layer's bias, activation and residual in one operation
    triton     a program a tile of y, on tensor cores, and what follows the product done before y is written

The textbook formula, on whole arrays, is minilm.functional.matmul.
"""
