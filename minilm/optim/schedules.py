"""Learning-rate schedules: what the base learning rate is multiplied with at each step.

A schedule is a pure function of the step number, so a resumed run needs nothing but the number. With s the
step counted from 0, w warm-up steps and n steps in all:

    warm-up          (s + 1) / (w + 1)                            for s < w
    constant         1                                            then
    linear           r + (1 - r) (1 - x)                          x = (s - w) / (n - w) clipped to [0, 1]
    cosine           r + (1 - r) (1 + cos(pi x)) / 2              Loshchilov & Hutter 2017, eq. 5, one period
    inverse_sqrt     min((s + 1) / w, sqrt(w / (s + 1)))          Vaswani et al. 2017, eq. 3, peak put at 1

with r = min_ratio. No step is wasted: the first one has a rate above 0 (in Hugging Face's schedules it is 0),
and r is reached when the n steps are over.

What this file does not do: restarts, cycles, schedules that look at the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from minilm.errors import ConfigurationError

Schedule = Callable[[int], float]


def _linear(x: float) -> float:
    return 1 - x


def _cosine(x: float) -> float:
    return (1 + math.cos(math.pi * x)) / 2


DECAYS: Mapping[str, Callable[[float], float] | None] = {
    "constant": None,
    "linear": _linear,
    "cosine": _cosine,
}
ALIASES: Mapping[str, str] = {"constant_with_warmup": "constant", "noam": "inverse_sqrt"}


def schedule(
    name: str, warmup_steps: int = 0, total_steps: int | None = None, min_ratio: float = 0.0
) -> Schedule:
    """The factor on the base learning rate as a function of the step, which counts from 0.

    Args:
        name: "constant", "linear", "cosine" or "inverse_sqrt"; Hugging Face's "constant_with_warmup" is
            "constant" (which here warms up too if it is told to), and "noam" is "inverse_sqrt".
        warmup_steps: steps with a rate that grows linearly to the base rate.
        total_steps: length of the run; linear and cosine need it, and stay at the minimum after it.
        min_ratio: where linear and cosine end, as a part of the base rate.

    Raises:
        ConfigurationError: if there is no such schedule, or the numbers do not fit it.
        ValueError: from the schedule, if the step is negative.
    """
    name = ALIASES.get(name, name)
    if name not in DECAYS and name != "inverse_sqrt":
        known = ", ".join([*DECAYS, "inverse_sqrt", *ALIASES])
        raise ConfigurationError(f"there is no schedule {name!r}: choose one of {known}")
    if warmup_steps < 0 or not 0 <= min_ratio <= 1:
        raise ConfigurationError(
            f"warmup_steps must be at least 0 and min_ratio in [0, 1]: got {warmup_steps} and {min_ratio}"
        )
    if name == "inverse_sqrt":
        if warmup_steps < 1:
            raise ConfigurationError("inverse_sqrt needs at least one warm-up step: its peak is there")
        return lambda step: _inverse_sqrt(_checked(step) + 1, warmup_steps)
    decay = DECAYS[name]
    if decay is None:
        return lambda step: min(1.0, (_checked(step) + 1) / (warmup_steps + 1))
    if total_steps is None or total_steps < 1 or warmup_steps > total_steps:
        raise ConfigurationError(
            f"the schedule {name} needs total_steps, of which warm-up is a part: "
            f"got {total_steps} with {warmup_steps} warm-up steps"
        )

    def factor(step: int) -> float:
        if _checked(step) < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        if step >= total_steps:
            return min_ratio
        return min_ratio + (1 - min_ratio) * decay((step - warmup_steps) / (total_steps - warmup_steps))

    return factor


def noam(d_model: int, warmup_steps: int) -> Schedule:
    """Vaswani et al. 2017, eq. 3: d_model^-0.5 min(n^-0.5, n warmup_steps^-1.5), with n = step + 1.

    This is the learning rate itself, so the base learning rate has to be 1.

    Raises:
        ConfigurationError: if one of the numbers is not positive.
    """
    if d_model < 1 or warmup_steps < 1:
        raise ConfigurationError(
            f"noam needs positive numbers: got d_model={d_model}, warmup_steps={warmup_steps}"
        )
    peak = 1 / math.sqrt(d_model * warmup_steps)
    return lambda step: peak * _inverse_sqrt(_checked(step) + 1, warmup_steps)


def _inverse_sqrt(n: int, warmup_steps: int) -> float:
    return min(n / warmup_steps, math.sqrt(warmup_steps / n))


def _checked(step: int) -> int:
    if step < 0:
        raise ValueError(f"steps count from 0: there is no step {step}")
    return step
