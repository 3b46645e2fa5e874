"""The tape: Tensor, recording, backward.

A `Tensor` wraps one array. An *operation* is a plain function on arrays that returns its output **and its vjp**
(vector-Jacobian product: the function that takes the gradient of the output, the cotangent g, to the gradients
of the inputs). The decorators `differentiable` and `elementwise` turn such a function into an `Operation` on
Tensors, which records itself when an input requires a gradient:

    @elementwise
    def multiply(a: Array, b: Array):
        "y = a b;  da = g b,  db = g a."
        return a * b, (lambda g: g * b, lambda g: g * a)

Reading order: tensor (the object), tape (nodes and the backward loop), operation (how a function is lifted to Tensors
and recorded); recording is the switch that `no_grad` turns, changes knows what was changed in place. No operation is
known here, not even `+`: `minilm.functional` registers those on Tensor.
"""

from minilm.tensor.operation import OPERATIONS, Operation, differentiable, elementwise
from minilm.tensor.recording import enable_grad, is_grad_enabled, no_grad
from minilm.tensor.tape import Node, backpropagate, unbroadcast, wide_sum
from minilm.tensor.tensor import Tensor, unwrap

__all__ = [
    *("OPERATIONS", "Node", "Operation", "Tensor", "backpropagate", "differentiable", "elementwise", "enable_grad"),
    *("is_grad_enabled", "no_grad", "unbroadcast", "unwrap", "wide_sum"),
]
