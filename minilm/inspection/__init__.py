"""Looking into a trained model, in reading order: reading (a text as tokens), attention (where each head looks),
logit_lens (what each layer would say), saliency (which words the answer hangs on), likelihood (how probable a text is),
bias_probe (paired sentences, and associations of embeddings), memorization (was a secret learnt by heart?).

Each tells what a model does with a text, and none tells why; what each does not show stands in its file. The pictures
are drawn by minilm.plots.
"""

from minilm.inspection.attention import attention_maps
from minilm.inspection.bias_probe import (
    Effect,
    Pair,
    association_effect,
    association_test,
    effect,
    group_difference,
    paired_sentences,
    probe_pairs,
)
from minilm.inspection.likelihood import log_likelihoods, pseudo_log_likelihoods
from minilm.inspection.logit_lens import LogitLens, layer_logits, logit_lens
from minilm.inspection.memorization import exposure
from minilm.inspection.reading import Reading, read
from minilm.inspection.saliency import (
    Attribution,
    gradient_norm,
    gradient_times_input,
    integrated_gradients,
)

__all__ = [
    *("Attribution", "Effect", "LogitLens", "Pair", "Reading", "association_effect", "association_test"),
    *("attention_maps", "effect", "exposure", "gradient_norm", "gradient_times_input", "group_difference"),
    *("integrated_gradients", "layer_logits", "log_likelihoods", "logit_lens", "paired_sentences", "probe_pairs"),
    *("pseudo_log_likelihoods", "read"),
]
