"""Pictures of what was trained. They need matplotlib: pip install 'minilm[plots]'.

loss_curves: training and validation loss over the steps, of one model or of several side by side.
"""

from minilm.plots.loss_curves import loss_figure, plot_losses

__all__ = ["loss_figure", "plot_losses"]
