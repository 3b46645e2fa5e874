"""minilm: a language-model library written from scratch in NumPy, to be read like a book.

    import minilm
    from minilm import Tensor

    x = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    (x @ x).sum().backward()
    x.grad

Read it in this order. Each floor imports only floors above it (a test holds it to that), so nothing is used
before it has been read:

    errors        what bad input can raise
    backend       where arrays live, and who computes the fused operations
    random        the one generator, the same on every backend
    tensor        the tape: Tensor, recording, backward, no_grad
    functional    the operations: formula, forward and derivative of each on one screen
    testing       gradcheck and its friends: how do we know that a gradient is right?
    nn            layers: Module, Linear, norms, attention, positions, recurrent layers, blocks
    optim         SGD, Adam, AdamW, schedules, clipping
    text          cleaning, readers, tokenizers, corpora, batches
    models        n-gram, LSTM, GPT, Llama, BERT, Transformer: a file each
    generation    sampling as a stream, beam search, prompts with examples, answers found in a text
    evaluation    perplexity, bits per byte, accuracy and F1, BLEU, ROUGE, exact match
    training      the one trainer, checkpoints that resume bit for bit, fine-tuning, private training
    compression   quantization, pruning, distillation
    pretrained    published weights: safetensors, GGUF, llama2.c; names of published models
    inspection    what a model attends to, which words decide, what its layers know, how it is biased
    plots         loss curves, rooflines, attention maps, and pictures of the rest
    cli           minilm doctor, train, finetune, sample, chat, eval, ...: a file for each command

    kernels       read last, but it stands on the ground: faster ways to compute the fused operations, which
                  import nothing of minilm (the folder kernels/ at the top of the repository)

`import minilm` is quick since it loads nothing: each name below is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import minilm.kernels as kernels
    from minilm import (
        compression,
        evaluation,
        functional,
        generation,
        inspection,
        models,
        nn,
        optim,
        plots,
        pretrained,
        testing,
        text,
        training,
    )
    from minilm.backend import use_backend
    from minilm.random import Generator, manual_seed
    from minilm.tensor import Tensor, is_grad_enabled, no_grad

__version__ = "0.1.0"

__all__ = [
    "Generator",
    "Tensor",
    "__version__",
    "compression",
    "evaluation",
    "functional",
    "generation",
    "inspection",
    "is_grad_enabled",
    "kernels",
    "manual_seed",
    "models",
    "nn",
    "no_grad",
    "optim",
    "plots",
    "pretrained",
    "testing",
    "text",
    "training",
    "use_backend",
]

_HOMES = {
    "Generator": "random",
    "Tensor": "tensor",
    "is_grad_enabled": "tensor",
    "manual_seed": "random",
    "no_grad": "tensor",
    "use_backend": "backend",
}
# Reached as attributes too, but not by `import *`: `random` would hide Python's own.
_QUIET_FLOORS = ("errors", "backend", "random", "tensor", "cli")


def __getattr__(name: str) -> Any:
    """Import the floor that `name` is, or lives in, on its first use (PEP 562)."""
    if name == "Tensor":
        import_module("minilm.functional")  # which gives Tensor its operators
    if name in _HOMES:
        value = getattr(import_module(f"minilm.{_HOMES[name]}"), name)
    elif name in __all__ or name in _QUIET_FLOORS:
        value = import_module(f"minilm.{name}")
    else:
        raise AttributeError(f"module 'minilm' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_QUIET_FLOORS})
