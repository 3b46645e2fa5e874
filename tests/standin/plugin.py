"""A plugin of pytest that runs the tests it is given with new arrays on the stand-in: `-p tests.standin.plugin`.

Left out are tests that hand arrays of NumPy to an operation as operands: on a device that is an error, as it should be.
"""

import pytest

from minilm import use_backend
from tests.backend.standin import install

OPERANDS_OF_NUMPY = (
    "test_alibi_is_added_to_the_scores_together_with_a_mask",
    "test_a_block_with_cross_attention_has_three_parts",
    "test_a_mask_over_all_keys_goes_with_the_cache",
    "test_a_padding_mask_makes_the_padding_irrelevant",
    "test_an_offset_continues_where_the_first_part_ended[learned]",
    "test_an_offset_continues_where_the_first_part_ended[sinusoidal]",
    "test_both_directions_read_the_same_dropped_input",
    "test_cross_attention_is_the_formula_head_by_head",
    "test_relu_is_an_option_of_the_rnn",
    "test_the_stack_equals_one_operation_after_the_other",
)


def pytest_collection_modifyitems(config, items):
    left_out = [item for item in items if item.name.startswith(OPERANDS_OF_NUMPY)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def _on_the_device(monkeypatch):
    install(monkeypatch)
    with use_backend("standin"):
        yield
