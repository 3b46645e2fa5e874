"""From gradients to better parameters: SGD, Adam and AdamW, clipping, and learning-rate schedules.

    optimizer = AdamW(model.named_parameters(), lr=1e-3, weight_decay=0.1)
    factor = schedule("cosine", warmup_steps=100, total_steps=2000, min_ratio=0.1)
    for step, batch in enumerate(batches):
        optimizer.zero_grad()
        model.loss(batch).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.scale_lr(factor(step))
        optimizer.step()

Reading order: sgd and adam (the update rules, on flat arrays), flat (how one pass over blocks that fit in the
cache applies a rule to all parameters), optimizer (groups, state), clipping, schedules.
"""

from minilm.optim.adam import Adam, AdamW
from minilm.optim.clipping import clip_grad_norm_, clip_gradients, grad_norm
from minilm.optim.optimizer import Optimizer
from minilm.optim.schedules import noam, schedule
from minilm.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm_", "clip_gradients", "grad_norm", "noam", "schedule"]
