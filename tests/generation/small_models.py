"""Models small enough to foresee what they write, and real ones with weights that matter."""

from types import SimpleNamespace

import numpy as np

from minilm import Tensor, is_grad_enabled, nn
from minilm.models import GPT, LSTMLM, GPTConfig, LSTMConfig
from minilm.random import Generator, using_generator

V = 13
CONTEXT = 8


class Table(nn.Module):
    """Logits are row ids[t] of a table (V, V). Remembers what it was shown, and in which mode."""

    def __init__(self, table, context_length=None):
        super().__init__()
        self.table = np.asarray(table, dtype=np.float32)
        self.context_length = context_length
        self.config = SimpleNamespace(vocab_size=len(self.table))
        self.shown = []
        self.modes = []

    def forward(self, ids):
        return self._show("whole", ids)

    def decode(self, ids, state=None):
        return self._show("next", ids), (state or 0) + ids.shape[1]

    def _show(self, how, ids):
        assert ids.dtype == np.int64 and ids.ndim == 2
        self.shown.append((how, ids[0].tolist()))
        self.modes.append((self.training, is_grad_enabled()))
        return Tensor(self.table[ids])


class Script(Table):
    """Writes a given sequence of ids, whatever the prompt; after the end, id 0."""

    def __init__(self, script, vocab_size):
        super().__init__(np.zeros((vocab_size, vocab_size)))
        self.script = iter(script)

    def _show(self, how, ids):
        logits = np.zeros((*ids.shape, len(self.table)), dtype=np.float32)
        logits[0, -1, next(self.script, 0)] = 100.0
        self.shown.append((how, ids[0].tolist()))
        return Tensor(logits)


def real_model(kind, dropout=0.0):
    """A GPT or a recurrent model whose logits differ by whole units: at their start all are nearly alike."""
    with using_generator(Generator(1)):
        if kind == "gpt":
            config = GPTConfig(V, CONTEXT, n_layer=2, n_head=2, n_embd=16, dropout=dropout)
            model = GPT(config)
        else:
            model = LSTMLM(LSTMConfig(V, n_embd=12, n_hidden=16, n_layer=2, dropout=dropout, cell=kind))
    generator = Generator(2)
    for parameter in model.parameters():
        parameter.data += 0.3 * generator.normal(parameter.shape)
    return model
