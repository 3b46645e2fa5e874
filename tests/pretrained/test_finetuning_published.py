"""Adapters on all-MiniLM-L6-v2 itself; what it learns of film reviews is in benchmarks/finetuning.py."""

import numpy as np

from minilm.cli import finetune_classify
from minilm.cli.finetune_task import Options
from minilm.random import Generator, using_generator
from minilm.tensor import no_grad
from minilm.training import merge_lora, prepare_method


def test_adapters_are_merged_without_a_trace(minilm_path, test_data):
    data = test_data("rt_polarity/rt-polarity.pos").parent
    task = finetune_classify.prepare(str(minilm_path), str(data), Options(limit=20))
    model, ids = task.model, task.held_out[0]["input_ids"][None]
    with no_grad():
        before = model(ids).numpy()
        with using_generator(Generator(2)):
            prepare_method(model, "lora", task.head)
            for name, parameter in model.named_parameters():
                if name.endswith("lora_B"):
                    parameter.data[:] = 0.02 * Generator(3).spawn(name).normal(parameter.shape)
        unmerged = model(ids).numpy()
        merged = merge_lora(model)(ids).numpy()
    assert np.abs(unmerged - before).max() > 1e-3
    np.testing.assert_allclose(merged, unmerged, atol=2e-6)
