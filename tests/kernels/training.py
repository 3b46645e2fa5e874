"""A few steps of training of the smallest models, for one backend to be compared with another."""

import numpy as np

from minilm import use_backend
from minilm.models import GPT, LSTMLM, GPTConfig, LSTMConfig
from minilm.optim import AdamW
from minilm.random import Generator, using_generator

V, B, T, STEPS = 13, 2, 9, 3


def gpt(dropout=0.0):
    """Heads of 4: the kernels pad them to 16."""
    return GPT(GPTConfig(vocab_size=V, block_size=T, n_layer=1, n_head=2, n_embd=8, dropout=dropout))


def lstm():
    return LSTMLM(LSTMConfig(vocab_size=V, n_layer=1, n_embd=8, n_hidden=6))


def train(backend, make):
    """The losses of STEPS steps of AdamW, and the parameters after them."""
    with use_backend(backend), using_generator(Generator(0)):
        model = make()
        optimizer = AdamW(model.parameters(), lr=1e-2)
        losses = []
        for tokens in np.random.default_rng(0).integers(0, V, (STEPS, B, T + 1)):
            loss = model.loss({"input_ids": tokens[:, :-1], "labels": tokens[:, 1:]})
            model.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, {name: parameter.numpy().copy() for name, parameter in model.named_parameters()}
