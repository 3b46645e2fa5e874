"""What all optimizers share: parameter groups, one pass over them, and a state that can be stored.

An optimizer adds two things to this class: the names of the arrays that it keeps for each parameter
(`state_names`), and its rule (`update`). Which parameters a step touches, and in what order, is the business
of `flat`.

The state is made for checkpoints: arrays that go into a safetensors file and numbers that go into JSON, both
exact, so that a resumed run takes the same steps bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, TypeAlias

import numpy as np

from minilm.backend import Array, kernel_for, to_numpy, xp
from minilm.errors import CheckpointError, ConfigurationError
from minilm.optim.flat import FlatSequence, Slot, state_dtype
from minilm.tensor import Tensor

Parameters: TypeAlias = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]


def check(condition: bool, message: str) -> None:
    """Raise ConfigurationError unless `condition` holds."""
    if not condition:
        raise ConfigurationError(message)


class Optimizer:
    """Base of SGD, Adam and AdamW.

    Args:
        params: Tensors (named "0", "1", ... in the state), or (name, Tensor) pairs as
            `Module.named_parameters` gives them, or dicts {"params": [...], "lr": ..., ...} whose settings
            take the place of the defaults for the parameters in it. A parameter that occurs several times in
            a group (a tied weight) counts once.
        defaults: the settings of a group that does not have its own.
        decay_filter: to which parameters, by name and Tensor, the weight decay applies; None: to all.

    Attributes:
        param_groups: one dict a group: "params", the settings, and "initial_lr", to which `scale_lr` refers.
            Settings may be written to between steps.

    Raises:
        ValueError: if there is no parameter, one does not require a gradient, one is in two groups, or two
            share a name.
        TypeError: if `params` holds something else.
        ConfigurationError: if a setting is unknown or outside its range.
    """

    def __init__(
        self,
        params: Parameters,
        defaults: dict[str, Any],
        decay_filter: Callable[[str, Tensor], bool] | None = None,
    ) -> None:
        self.param_groups: list[dict[str, Any]] = []
        self._slots: list[Slot] = []
        for settings, named in _groups(params):
            unknown = set(settings) - set(defaults)
            check(
                not unknown,
                f"{type(self).__name__} knows no setting {_some(sorted(unknown))}, but {_some([*defaults])}",
            )
            group = {"params": [], **defaults, **settings}
            self.check_group(group)
            group["initial_lr"] = group["lr"]
            for name, parameter in named:
                decays = "weight_decay" in group and (decay_filter is None or decay_filter(name, parameter))
                group["params"].append(parameter)
                self._slots.append(Slot(name, parameter, len(self.param_groups), decays))
            self.param_groups.append(group)
        if not self._slots:
            raise ValueError(
                f"{type(self).__name__} got no parameters: has the model any, and was a generator used up?"
            )
        _check_parameters(self._slots)
        rows: dict[Any, list[Slot]] = {}
        for slot in self._slots:
            array = slot.parameter.data
            rows.setdefault((xp(array), state_dtype(array.dtype)), []).append(slot)
        self._flats = [FlatSequence(slots, self.state_names()) for slots in rows.values()]

    # --- what a subclass says

    kernel: ClassVar[str | None] = None
    """The name under which a backend may have a kernel for the whole step: see `kernel_settings`."""

    def kernel_settings(self, settings: Mapping[str, Any], step: int) -> Any:
        """What the kernel is to know of a run; arguments as those of `update`."""
        raise NotImplementedError

    def state_names(self) -> tuple[str, ...]:
        """The names of the arrays, each of the parameter's shape, that the rule keeps from step to step."""
        return ()

    def check_group(self, group: dict[str, Any]) -> None:
        """Raise ConfigurationError for a setting outside its range."""
        check(group["lr"] >= 0, f"the learning rate lr must not be negative: {group['lr']}")
        decay = group.get("weight_decay", 0)
        check(decay >= 0, f"weight_decay must not be negative: {decay}")

    def update(
        self, settings: Mapping[str, Any], step: int, p: Array, g: Array, work: Array, *state: Array
    ) -> None:
        """Write the new values of p and of the state in place.

        Args:
            settings: those of the group; its "weight_decay" is 0 for parameters that do not decay.
            step: the number of this update, from 1.
            p, g, state: 1-D arrays of one length: values, gradients (not to be written) and state.
            work: (2, length), scratch.
        """
        raise NotImplementedError

    # --- what a training loop calls

    def step(self) -> None:
        """Update every parameter that has a gradient, in place; where `.grad` is None nothing happens."""
        for flat in self._flats:
            kernel = None if self.kernel is None else kernel_for(self.kernel, flat.buffers[self.state_names()[0]])
            at_once = []
            for run in flat.runs():
                for slot in run:
                    slot.step += 1
                settings = self.param_groups[run[0].group]
                if not run[0].decays:
                    settings = {**settings, "weight_decay": 0.0}
                if kernel is None:
                    flat.apply(run, partial(self.update, settings, run[0].step))
                else:
                    at_once.append((run, self.kernel_settings(settings, run[0].step)))
            if kernel is not None and at_once:
                flat.apply_at_once(kernel, at_once)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; with `set_to_none=False` they become arrays of zeros instead."""
        for slot in self._slots:
            parameter = slot.parameter
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def scale_lr(self, factor: float) -> None:
        """Set the learning rate of every group to `factor` times its initial one (see `schedule`)."""
        for group in self.param_groups:
            group["lr"] = group["initial_lr"] * factor

    # --- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on apart from the parameters, copied.

        Returns:
            {"tensors": {"first_moment.wte.weight": NumPy array, ...},
             "optimizer": "AdamW",
             "steps": {"wte.weight": 12, ...},
             "param_groups": [{"lr": 0.001, ..., "params": ["wte.weight", ...]}]}
            All but "tensors" can be written as JSON.
        """
        tensors = {name: np.array(to_numpy(view)) for name, view in self._views().items()}
        return {"tensors": tensors, **self._numbers()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the optimizer that gave `state` stood, with its learning rate and other settings.

        Raises:
            CheckpointError: if it belongs to another optimizer or to other parameters (names, groups, shapes,
                dtypes); then nothing has been changed.
        """
        views, own = self._views(), self._numbers()
        _same_names("entries", state, ["tensors", *own])
        if state["optimizer"] != own["optimizer"]:
            raise CheckpointError(f"the state is one of {state['optimizer']}, and this is {own['optimizer']}")
        _same_names("steps", state["steps"], own["steps"])
        for name, step in state["steps"].items():
            if type(step) is not int or not 0 <= step < 1 << 63:
                raise CheckpointError(f"the steps of {name} are {step!r} in the state, and should be a count")
        _same_names("tensors", state["tensors"], views)
        groups = state["param_groups"]
        if not isinstance(groups, list) or not all(isinstance(group, Mapping) for group in groups):
            raise CheckpointError(f"the parameter groups of the state are {groups!r}")
        if len(groups) != len(self.param_groups):
            raise CheckpointError(
                f"the state has {len(groups)} parameter groups, and this optimizer {len(self.param_groups)}"
            )
        settings = []
        for index, (loaded, mine) in enumerate(zip(groups, own["param_groups"], strict=True)):
            _same_names(f"settings of group {index}", loaded, mine)
            _same_names(f"parameters of group {index}", loaded["params"], mine["params"])
            settings.append({key: value for key, value in loaded.items() if key != "params"})
            for key, value in settings[-1].items():
                if not _alike(value, mine[key]):
                    raise CheckpointError(f"{key} of group {index} is {value!r} in the state and {mine[key]!r} here")
            self.check_group(settings[-1])
        for name, view in views.items():
            array = state["tensors"][name]
            if array.shape != view.shape or array.dtype != view.dtype:
                raise CheckpointError(
                    f"{name} is {array.shape} {array.dtype} in the state and {view.shape} {view.dtype} here: "
                    f"was it stored for a model of another size or dtype?"
                )
        for name, view in views.items():
            view[...] = xp(view).asarray(state["tensors"][name])
        for slot in self._slots:
            slot.step = state["steps"][slot.name]
        for group, loaded in zip(self.param_groups, settings, strict=True):
            group.update(loaded)

    def _views(self) -> dict[str, Array]:
        return {
            f"{buffer}.{slot.name}": flat.state(slot, buffer)
            for buffer in self.state_names()
            for flat in self._flats
            for slot in flat.slots
        }

    def _numbers(self) -> dict[str, Any]:
        groups = []
        for index, group in enumerate(self.param_groups):
            settings = {key: list(v) if isinstance(v, tuple) else v for key, v in group.items()}
            names = [slot.name for slot in self._slots if slot.group == index]
            groups.append({**settings, "params": names})
        return {
            "optimizer": type(self).__name__,
            "steps": {slot.name: slot.step for slot in self._slots},
            "param_groups": groups,
        }


def _alike(value: Any, mine: Any) -> bool:
    """Is a setting of the kind that mine is?"""
    if isinstance(mine, list):
        return isinstance(value, list | tuple) and len(value) == len(mine) and all(map(_alike, value, mine))
    if type(mine) in (int, float):
        return isinstance(value, int | float | np.number) and type(value) is not bool and bool(np.isfinite(value))
    return mine is None or type(value) is type(mine)


def named_tensors(params: Any, first: int = 0) -> list[tuple[str, Tensor]]:
    """(name, Tensor) pairs of an iterable of Tensors or of such pairs, each Tensor once.

    A Tensor without a name gets its number among them, counted from `first`.

    Raises:
        TypeError: if it is anything else.
    """
    if isinstance(params, Tensor | str | Mapping) or not isinstance(params, Iterable):
        raise TypeError(
            f"parameters are a list of Tensors or of (name, Tensor) pairs, not {type(params).__name__}: "
            f"pass model.parameters() or model.named_parameters()"
        )
    found: dict[int, tuple[str, Tensor]] = {}
    for item in params:
        name, tensor = item if isinstance(item, tuple) and len(item) == 2 else (str(first + len(found)), item)
        if not isinstance(tensor, Tensor) or not isinstance(name, str):
            raise TypeError(f"a parameter is a Tensor or a (name, Tensor) pair, not {type(item).__name__}")
        found.setdefault(id(tensor), (name, tensor))
    return list(found.values())


def _groups(params: Any) -> list[tuple[dict[str, Any], list[tuple[str, Tensor]]]]:
    """The settings and the named parameters of each group."""
    if isinstance(params, Iterable) and not isinstance(params, Tensor | str | Mapping):
        params = list(params)
    if not (isinstance(params, list) and params and all(isinstance(item, dict) for item in params)):
        return [({}, named_tensors(params))]
    groups: list[tuple[dict[str, Any], list[tuple[str, Tensor]]]] = []
    count = 0
    for group in params:
        if "params" not in group:
            raise ValueError(f"a parameter group needs the key 'params'; this one has {list(group)}")
        named = named_tensors(group["params"], count)
        count += len(named)
        groups.append(({key: value for key, value in group.items() if key != "params"}, named))
    return groups


def _check_parameters(slots: list[Slot]) -> None:
    by_identity: dict[int, Slot] = {}
    by_name: dict[str, Slot] = {}
    for slot in slots:
        if not slot.parameter.requires_grad:
            raise ValueError(
                f"parameter {slot.name!r} of shape {slot.parameter.shape} does not require a gradient: leave "
                f"frozen parameters out of the optimizer, or make it with requires_grad=True"
            )
        if not slot.parameter.is_leaf:
            raise ValueError(
                f"parameter {slot.name!r} was computed by an operation; only leaves have a gradient to follow"
            )
        twin = by_identity.setdefault(id(slot.parameter), slot)
        if twin is not slot:
            raise ValueError(
                f"parameter {slot.name!r} of group {slot.group} is {twin.name!r} of group {twin.group} too: "
                f"a parameter belongs to one group"
            )
        if by_name.setdefault(slot.name, slot) is not slot:
            raise ValueError(f"two parameters are named {slot.name!r}: their state could not be told apart")


def _same_names(what: str, loaded: Iterable[str], own: Iterable[str]) -> None:
    missing, surplus = sorted(set(own) - set(loaded)), sorted(set(loaded) - set(own))
    if missing or surplus:
        told = [f"{word} {_some(names)}" for word, names in (("lacks", missing), ("has", surplus)) if names]
        raise CheckpointError(
            f"the optimizer state does not fit: its {what} and those of this optimizer differ; the state "
            f"{' and '.join(told)}"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
