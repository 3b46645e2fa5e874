"""The tests, laid out as minilm is.

A package, so that they can share strategies: `from tests.properties import ...`.
"""
