"""Smaller models from trained ones. Reading order: matrices (integers in the place of floats, and products with them),
quantization (a whole model), pruning (weights that become zero), distillation (a small model that learns from a large
one).
"""

from minilm.compression.distillation import DistillationModel, distillation_loss
from minilm.compression.matrices import Int4Matrix, Int8Matrix, QuantizedMatrix
from minilm.compression.pruning import GradualPruning, Pruning, prunable, prune
from minilm.compression.quantization import (
    QuantizedEmbedding,
    QuantizedLinear,
    load_quantized,
    quantize,
    quantized_matrices,
    save_quantized,
    size_in_bytes,
)

__all__ = [
    "DistillationModel",
    "GradualPruning",
    "Int4Matrix",
    "Int8Matrix",
    "Pruning",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedMatrix",
    "distillation_loss",
    "load_quantized",
    "prunable",
    "prune",
    "quantize",
    "quantized_matrices",
    "save_quantized",
    "size_in_bytes",
]
