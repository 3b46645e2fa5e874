"""Pictures of what was trained and of what was timed. They need matplotlib: pip install 'minilm[plots]'.

loss_curves: training and validation loss over the steps, of one model or of several side by side.
attention_maps: where each head looks.
inspection_pictures: what minilm.inspection found: saliency over the words, the logit lens, effects with intervals.
privacy_curve: loss against epsilon, and the exposure of a secret.
roofline: what `minilm bench` measured: time against length, and flop/s under the roofs of the machine.
"""

from minilm.plots.attention_maps import attention_figure, plot_attention
from minilm.plots.inspection_pictures import (
    effects_figure,
    logit_lens_figure,
    plot_effects,
    plot_logit_lens,
    plot_saliency,
    saliency_figure,
)
from minilm.plots.loss_curves import loss_figure, plot_losses
from minilm.plots.privacy_curve import plot_privacy, privacy_figure
from minilm.plots.roofline import plot_bench, roofline_figure, time_figure

__all__ = [
    *("attention_figure", "loss_figure", "plot_attention", "plot_bench", "plot_losses", "roofline_figure"),
    *("effects_figure", "logit_lens_figure", "plot_effects", "plot_logit_lens", "plot_privacy", "plot_saliency"),
    *("privacy_figure", "saliency_figure", "time_figure"),
]
