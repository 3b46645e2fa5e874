"""What the configurations of the models check alike: sizes, and the probability of dropout."""

from __future__ import annotations

from typing import Any

from minilm.errors import ConfigurationError


def check_sizes(config: Any, names: tuple[str, ...]) -> None:
    """Raise ConfigurationError, naming them all, unless these fields are at least 1."""
    wrong = [f"{name}={getattr(config, name)}" for name in names if getattr(config, name) < 1]
    if wrong:
        raise ConfigurationError(f"{type(config).__name__}: sizes are at least 1, got {', '.join(wrong)}")


def check_heads(config: Any, whole: str, part: str) -> None:
    """Raise ConfigurationError unless the size `whole` is a multiple of the size `part`."""
    if getattr(config, whole) % getattr(config, part):
        raise ConfigurationError(
            f"{type(config).__name__}: {whole}={getattr(config, whole)} is not a multiple of "
            f"{part}={getattr(config, part)}"
        )


def check_dropout(config: Any) -> None:
    """Raise ConfigurationError unless `dropout` is a probability below 1."""
    if not 0 <= config.dropout < 1:
        raise ConfigurationError(f"{type(config).__name__}: dropout is from 0 to below 1, got {config.dropout}")
