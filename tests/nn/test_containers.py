"""Sequential and ModuleList: numbered names, the order of computation, and what they refuse."""

import numpy as np
import pytest

import minilm.functional as F
from minilm import Tensor, nn


class Double(nn.Module):
    """y = 2 x."""

    def forward(self, x):
        return x * 2


class AddOne(nn.Module):
    """y = x + 1."""

    def forward(self, x):
        return x + 1


def test_sequential_gives_each_module_the_output_of_the_one_before():
    x = Tensor([3.0])
    assert nn.Sequential(Double(), AddOne())(x).item() == 7
    assert nn.Sequential(AddOne(), Double())(x).item() == 8
    assert nn.Sequential()(x) is x


def test_modules_are_named_by_their_numbers():
    sequence = nn.Sequential(nn.Linear(2, 3), nn.Dropout(), nn.Linear(3, 1, bias=False))
    assert list(sequence.state_dict()) == ["0.weight", "0.bias", "2.weight"]


@pytest.mark.parametrize("kind", [nn.ModuleList, lambda modules: nn.Sequential(*modules)])
def test_they_are_lists(kind):
    modules = [Double(), AddOne(), Double()]
    container = kind(modules)
    assert len(container) == 3 and list(container) == modules
    assert container[0] is modules[0] and container[-1] is modules[2]
    with pytest.raises(IndexError):
        container[3]
    added = AddOne()
    container.append(added)
    assert len(container) == 4 and container[3] is added


def test_more_than_ten_modules_stay_in_order():
    modules = [nn.Linear(1, 1) for _ in range(12)]
    assert list(nn.ModuleList(modules)) == modules


def test_a_module_list_trains_its_modules():
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    x = Tensor(np.ones((1, 2), dtype="float32"))
    for layer in layers:
        x = layer(x)
    x.sum().backward()
    assert len(list(layers.parameters())) == 6 and all(p.grad is not None for p in layers.parameters())
    assert not any(layer.training for layer in layers.eval())


def test_a_module_list_computes_nothing_itself():
    with pytest.raises(NotImplementedError, match="ModuleList defines no forward"):
        nn.ModuleList([Double()])(1)


@pytest.mark.parametrize("other", [F.relu, None, "Linear"], ids=["function", "None", "text"])
def test_what_is_no_module_is_refused_and_not_dropped(other):
    """A function would be kept as a plain attribute, and left out of the computation in silence."""
    with pytest.raises(TypeError, match=r"(Sequential|ModuleList) holds modules, not .*Module"):
        nn.Sequential(nn.Linear(1, 1), other)
    with pytest.raises(TypeError, match=r"ModuleList holds modules, not"):
        nn.ModuleList([other])
