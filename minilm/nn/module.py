"""Module: a layer or model that knows its parameters. Parameter: a Tensor that is trained.

PyTorch's protocol: assigning a Parameter or a Module to an attribute registers it under that name, `forward` computes,
and `state_dict` maps dotted names to arrays. What it does not do: devices (arrays live where the backend makes them)
and gradients hooks; `register_forward_hook` is there to look at what layers put out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from minilm.backend import Array, asarray, to_numpy
from minilm.tensor import Tensor, no_grad


class Parameter(Tensor):
    """A Tensor that requires a gradient and that a Module registers when it is assigned to an attribute."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True, dtype: Any = None) -> None:
        super().__init__(data, requires_grad=requires_grad, dtype=dtype)


class Module:
    """Base of all layers and models.

    A subclass calls `super().__init__()`, assigns parameters and submodules, and defines `forward`.
    """

    training: bool

    def __init__(self) -> None:
        self.__dict__.update(_parameters={}, _buffers={}, _modules={}, _forward_hooks={}, training=True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; called as `module(...)`."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self.forward(*args, **kwargs)
        for hook in tuple(self._forward_hooks.values()):
            hook(self, args, output)
        return output

    # --- attributes

    def __setattr__(self, name: str, value: Any) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__}: call super().__init__() before assigning {name!r}")
        if isinstance(value, Parameter):
            home = self._parameters
        elif isinstance(value, Module):
            home = self._modules
        elif name in self._buffers:
            home = self._buffers
        else:
            home = None
        for registry in (self._parameters, self._modules, self._buffers):
            if registry is not home:
                registry.pop(name, None)
        if home is None:
            object.__setattr__(self, name, value)
        else:
            self.__dict__.pop(name, None)  # it would hide what is registered
            home[name] = value  # a name that was there already keeps its place in the order

    def __getattr__(self, name: str) -> Any:  # only asked when the normal look-up finds nothing
        for registry in ("_parameters", "_modules", "_buffers"):
            if name in self.__dict__.get(registry, ()):
                return self.__dict__[registry][name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        for registry in ("_parameters", "_modules", "_buffers"):
            if name in self.__dict__[registry]:
                del self.__dict__[registry][name]
                return
        object.__delattr__(self, name)

    def register_buffer(self, name: str, value: Tensor) -> None:
        """A constant array that belongs to the module (a table of positions): not trained, computed, not saved."""
        self._buffers[name] = value

    # --- walking

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of this module, under the name `prefix`, and of all below it; each module once."""
        yield from self._walk(prefix, set())

    def _walk(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, module in self._modules.items():
            yield from module._walk(f"{prefix}.{name}" if prefix else name, seen)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def children(self) -> Iterator[Module]:
        """The modules directly below this one."""
        return iter(self._modules.values())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter); a parameter that is used in two places comes once, under its first name."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, parameter in module._parameters.items():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield (f"{prefix}.{name}" if prefix else name), parameter

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def num_parameters(self, only_trainable: bool = False) -> int:
        """How many numbers the parameters hold."""
        return sum(p.size for p in self.parameters() if p.requires_grad or not only_trainable)

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call `function` on this module and all below it, the innermost first."""
        for module in reversed(list(self.modules())):
            function(module)
        return self

    # --- modes

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout drops) here and in all modules below."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode here and in all modules below."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or unfreeze all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def astype(self, dtype: Any) -> Self:
        """Convert all floating parameters and buffers to a dtype, in place of the old ones; gradients are dropped."""
        for module in self.modules():
            for parameter in module._parameters.values():
                converted = Parameter(parameter.data.astype(dtype))
                parameter.data, parameter.grad = converted.data, None
            for name, value in module._buffers.items():
                if isinstance(value, Tensor) and value.dtype.kind == "f":
                    module._buffers[name] = Tensor(value, dtype=dtype)
        return self

    # --- saving

    def state_dict(self) -> dict[str, np.ndarray]:
        """Parameter name -> array on the host (a copy: training on does not change it)."""
        return {name: np.array(to_numpy(p.data)) for name, p in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Array], strict: bool = True) -> None:
        """Copy arrays into the parameters, in place; nothing is changed if anything does not fit.

        Raises:
            KeyError: with `strict`, if names are missing or unknown.
            ValueError: if a shape does not fit.
        """
        own = dict(self.named_parameters())
        missing = [name for name in own if name not in state]
        unknown = [name for name in state if name not in own]
        if strict and (missing or unknown):
            raise KeyError(
                f"the state does not fit {type(self).__name__}: missing {_listed(missing)}; unknown {_listed(unknown)}"
            )
        wrong = [
            f"{name} is {tuple(state[name].shape)} in the state but {p.shape} in the model"
            for name, p in own.items()
            if name in state and tuple(state[name].shape) != p.shape
        ]
        if wrong:
            raise ValueError(f"shapes do not fit {type(self).__name__}: {_listed(wrong)}")
        with no_grad():
            for name, parameter in own.items():
                if name in state:
                    parameter.copy_(asarray(state[name], dtype=parameter.dtype))

    def get_extra_state(self) -> dict[str, np.ndarray]:
        """What exact resumption of training needs besides the parameters (a carried recurrent state): nothing here."""
        return {}

    def set_extra_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back what `get_extra_state` gave."""
        if state:
            raise ValueError(f"{type(self).__name__} has no extra state, got {_listed(list(state))}")

    # --- looking

    def register_forward_hook(self, hook: Callable[[Module, tuple[Any, ...], Any], None]) -> Callable[[], None]:
        """Call hook(module, args, output) after each forward; returns a function that takes the hook away again."""
        key = object()
        self._forward_hooks[key] = hook
        return lambda: self._forward_hooks.pop(key, None)

    def describe(self) -> str:
        """What stands in the brackets of the repr: sizes and settings. For subclasses to define."""
        return ""

    def __repr__(self) -> str:
        head = f"{type(self).__name__}({self.describe()})"
        own = ", ".join(f"{name} {p.shape}" for name, p in self._parameters.items())
        count = self.num_parameters()
        lines = [head + (f"  {own}" if own else "") + (f"  [{count:,} parameters]" if count else "")]
        for name, module in self._modules.items():
            lines += [f"  {name}: {line}" if i == 0 else f"  {line}" for i, line in enumerate(repr(module).split("\n"))]
        return "\n".join(lines)


@contextmanager
def evaluating(modules: Iterable[Module]) -> Iterator[None]:
    """Within the block nothing is recorded and all of `modules` (`model.modules()`) are in evaluation mode.

    After it each is in the mode that it had, which may differ from module to module (a frozen part).
    """
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        with no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def _listed(names: list[str], most: int = 5) -> str:
    if not names:
        return "nothing"
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
