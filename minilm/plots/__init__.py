"""Pictures of what was trained and of what was timed. They need matplotlib: pip install 'minilm[plots]'.

loss_curves: training and validation loss over the steps, of one model or of several side by side.
attention_maps: where each head looks.
roofline: what `minilm bench` measured: time against length, and flop/s under the roofs of the machine.
"""

from minilm.plots.attention_maps import attention_figure, plot_attention
from minilm.plots.loss_curves import loss_figure, plot_losses
from minilm.plots.roofline import plot_bench, roofline_figure, time_figure

__all__ = [
    *("attention_figure", "loss_figure", "plot_attention", "plot_bench", "plot_losses", "roofline_figure"),
    "time_figure",
]
