"""Module: what it registers, saves and loads, and what it does to the modules below."""

import copy

import numpy as np
import pytest

from minilm import Tensor, is_grad_enabled, nn


class Block(nn.Module):
    """Two layers that are not the same, a parameter of its own, a constant."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter([2.0])
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 3, bias=False)
        self.register_buffer("table", Tensor([1.0, 2.0, 3.0]))
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.second(self.first(x)) * self.scale + self.table)


class Tied(nn.Module):
    """An input table whose weight is the output layer's, as in GPT-2."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5)
        self.head.weight = self.table.weight

    def forward(self, ids):
        return self.head(self.table(ids))


NAMES = ["scale", "first.weight", "first.bias", "second.weight"]


def test_parameters_are_named_by_their_path_in_the_order_of_assignment():
    block = Block()
    assert [name for name, _ in block.named_parameters()] == NAMES
    assert [name for name, _ in block.named_modules()] == ["", "first", "second", "drop"]
    assert list(block.children()) == [block.first, block.second, block.drop]
    assert block.num_parameters() == 1 + 12 + 4 + 12


def test_a_parameter_requires_a_gradient_and_a_tensor_is_not_registered():
    block = Block()
    block.constant = Tensor([1.0])
    assert all(p.requires_grad for p in block.parameters())
    assert [name for name, _ in block.named_parameters()] == NAMES


def test_assigning_again_replaces_whatever_stood_under_the_name():
    module = nn.Module()
    module.x = nn.Linear(2, 2)
    module.x = nn.Parameter([1.0])
    assert [name for name, _ in module.named_parameters()] == ["x"] and list(module.children()) == []
    module.x = nn.Dropout()
    assert list(module.parameters()) == [] and isinstance(module.x, nn.Dropout)
    module.x = None
    assert list(module.children()) == [] and module.x is None
    module.x = nn.Parameter([1.0])
    assert isinstance(module.x, nn.Parameter)
    module.register_buffer("y", Tensor([1.0]))
    module.y = nn.Parameter([3.0])
    assert module.y.item() == 3.0 and "y" in dict(module.named_parameters())


def test_a_replaced_parameter_keeps_its_place_in_the_order():
    block = Block()
    block.first.weight = nn.Parameter(np.ones((4, 3), dtype="float32"))
    assert [name for name, _ in block.named_parameters()] == NAMES


def test_deleting_unregisters():
    block = Block()
    del block.scale, block.first, block.table
    assert [name for name, _ in block.named_parameters()] == ["second.weight"]
    for name in ("scale", "first", "table", "never"):
        with pytest.raises(AttributeError, match=f"'?{name}'?"):
            getattr(block, name)
    with pytest.raises(AttributeError):
        del block.never


def test_assigning_before_init_names_the_remedy():
    class Forgetful(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter([1.0])

    with pytest.raises(AttributeError, match=r"Forgetful: call super\(\).__init__\(\) before assigning 'weight'"):
        Forgetful()


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        nn.Module()(1)


def test_tied_parameters_come_once_and_get_the_sum_of_both_gradients():
    tied = Tied()
    assert [name for name, _ in tied.named_parameters()] == ["table.weight", "head.bias"]
    assert set(tied.state_dict()) == {"table.weight", "head.bias"}
    assert tied.num_parameters() == 15 + 5
    tied(np.array([1])).sum().backward()
    both = tied.table.weight.grad.numpy()
    row = tied.table.weight.numpy()[1]
    expected = np.tile(row, (5, 1))  # the head's part: every output saw this row
    expected[1] += tied.table.weight.numpy().sum(0)  # the table's part: the row was looked up
    np.testing.assert_allclose(both, expected, rtol=1e-6)


# ----- saving


def test_the_state_is_a_copy_of_the_parameters_and_not_of_the_buffers():
    block = Block()
    state = block.state_dict()
    assert list(state) == NAMES
    before = state["first.weight"].copy()
    block.first.weight.data[...] = 7
    np.testing.assert_array_equal(state["first.weight"], before)
    state["second.weight"][...] = 9
    assert (block.second.weight.numpy() != 9).all()


def test_loading_what_was_saved_gives_the_same_module_in_place():
    one, other = Block(), Block()
    kept = list(other.parameters())
    other.load_state_dict(one.state_dict())
    assert all(p is q for p, q in zip(kept, other.parameters(), strict=True))
    for name, array in one.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array)
    one.first.weight.data[...] = 0  # the loaded one has memory of its own
    assert (other.first.weight.numpy() != 0).any()


@pytest.mark.parametrize(
    "change, error, words",
    [
        (lambda s: s.pop("first.bias"), KeyError, ["Block", "missing first.bias", "unknown nothing"]),
        (lambda s: s.update(extra=np.ones(1)), KeyError, ["missing nothing", "unknown extra"]),
        (
            lambda s: s.update({"second.weight": np.ones((4, 3))}),
            ValueError,
            ["Block", "second.weight is (4, 3) in the state but (3, 4) in the model"],
        ),
    ],
    ids=["missing", "unknown", "shape"],
)
def test_a_state_that_does_not_fit_is_an_error_and_changes_nothing(change, error, words):
    block = Block()
    before = block.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    change(state)
    with pytest.raises(error) as caught:
        block.load_state_dict(state)
    for word in words:
        assert word in str(caught.value)
    for name, array in block.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_loading_loosely_takes_what_is_there_but_still_no_wrong_shape():
    block = Block()
    bias = np.arange(4.0)
    block.load_state_dict({"first.bias": bias, "extra": np.ones(3)}, strict=False)
    np.testing.assert_array_equal(block.first.bias.numpy(), bias)
    with pytest.raises(ValueError, match=r"first.bias is \(5,\)"):
        block.load_state_dict({"first.bias": np.ones(5)}, strict=False)


def test_loading_keeps_the_dtype_of_the_model():
    block = Block()
    block.load_state_dict({n: a.astype("float64") for n, a in block.state_dict().items()})
    assert {p.dtype for p in block.parameters()} == {np.dtype("float32")}


# ----- modes, and walks over everything below


def test_train_and_eval_reach_every_module_below():
    block = nn.Sequential(Block(), Block())
    assert block.eval() is block
    assert [m.training for m in block.modules()] == [False] * 9
    x = np.ones((2, 3), dtype="float32")
    np.testing.assert_array_equal(block(Tensor(x)).numpy(), block(Tensor(x)).numpy())
    assert all(m.training for m in block.train().modules())
    assert (block(Tensor(x)).numpy() != block(Tensor(x)).numpy()).any()  # dropout drops again


def test_apply_visits_the_innermost_first_and_each_module_once():
    shared = nn.Dropout()
    module = nn.Sequential(nn.Sequential(shared, nn.Linear(1, 1)), shared)
    seen = []
    assert module.apply(seen.append) is module
    assert len(seen) == len(set(map(id, seen))) == 4
    assert seen[-1] is module and seen.index(shared) < seen.index(module[0])


def test_freezing_and_the_count_of_what_is_trained():
    block = Block()
    block.first.requires_grad_(False)
    assert block.num_parameters(only_trainable=True) == 1 + 12
    block(Tensor(np.ones((2, 3), dtype="float32"))).sum().backward()
    assert block.first.weight.grad is None and block.second.weight.grad is not None
    assert block.requires_grad_().num_parameters(only_trainable=True) == 29


def test_zero_grad_forgets():
    block = Block()
    block(Tensor(np.ones((2, 3), dtype="float32"))).sum().backward()
    block.zero_grad()
    assert all(p.grad is None for p in block.parameters())


def test_astype_converts_parameters_and_floating_buffers_and_keeps_ties():
    block, tied = Block().astype("float64"), Tied().astype("float64")
    block.register_buffer("ids", Tensor([1, 2]))
    block.astype("float64")
    assert {p.dtype for p in block.parameters()} == {block.table.dtype} == {np.dtype("float64")}
    assert block.ids.dtype.kind == "i"
    assert block(Tensor(np.ones((2, 3)))).dtype == np.float64
    assert tied.head.weight is tied.table.weight and tied.head.weight.dtype == np.float64
    assert isinstance(tied.head.weight, nn.Parameter) and tied.head.weight.requires_grad


def test_astype_keeps_what_is_frozen_frozen():
    block = Block()
    block.first.requires_grad_(False)
    assert [p.requires_grad for p in block.astype("float64").parameters()] == [True, False, False, True]


def test_a_deep_copy_is_independent_and_its_ties_are_its_own():
    tied = Tied().eval()
    twin = copy.deepcopy(tied)
    assert twin.head.weight is twin.table.weight and twin.head.weight is not tied.head.weight
    assert not twin.training and not twin.head.training
    ids = np.array([0, 4])
    np.testing.assert_array_equal(twin(ids).numpy(), tied(ids).numpy())
    before = tied.table.weight.numpy().copy()
    twin.table.weight.data[...] = 0
    twin.train()
    np.testing.assert_array_equal(tied.table.weight.numpy(), before)
    assert not tied.training


# ----- looking


def test_a_forward_hook_sees_the_output_until_it_is_taken_away():
    layer, seen = nn.Linear(2, 3), []
    remove = layer.register_forward_hook(lambda module, args, output: seen.append((module, args, output)))
    x = Tensor([[1.0, 2.0]])
    y = layer(x)
    ((module, args, output),) = seen
    assert module is layer and args == (x,) and output is y
    remove()
    remove()  # twice does no harm
    layer(x)
    assert len(seen) == 1


def test_two_hooks_are_called_in_the_order_of_registration():
    layer, seen = nn.Linear(1, 1), []
    first = layer.register_forward_hook(lambda *_: seen.append("first"))
    layer.register_forward_hook(lambda *_: seen.append("second"))
    layer(Tensor([[1.0]]))
    first()
    layer(Tensor([[1.0]]))
    assert seen == ["first", "second", "second"]


def test_the_repr_shows_names_sizes_shapes_and_counts():
    assert repr(Block()).split("\n") == [
        "Block()  scale (1,)  [29 parameters]",
        "  first: Linear(3 -> 4)  weight (4, 3), bias (4,)  [16 parameters]",
        "  second: Linear(4 -> 3)  weight (3, 4)  [12 parameters]",
        "  drop: Dropout(p=0.5)",
    ]
    nested = repr(nn.Sequential(nn.Sequential(nn.Linear(1000, 1000)))).split("\n")
    assert nested[1].startswith("  0: Sequential(") and nested[2].startswith("    0: Linear(1000 -> 1000)")
    assert "[1,001,000 parameters]" in nested[0]


def test_a_tied_parameter_is_counted_once_in_the_repr():
    assert repr(Tied()).split("\n")[0].endswith("[20 parameters]")


def test_a_property_of_a_subclass_stays_a_property():
    class Measured(nn.Module):
        @property
        def width(self):
            return 3

    with pytest.raises(AttributeError):
        Measured().width = 4


def test_evaluating_gives_each_module_its_own_mode_back_even_after_an_error():
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    model[1].eval()
    with pytest.raises(KeyboardInterrupt), nn.evaluating(model.modules()):
        assert not any(module.training for module in model.modules()) and not is_grad_enabled()
        raise KeyboardInterrupt
    assert [module.training for module in model.modules()] == [True, True, False] and is_grad_enabled()
