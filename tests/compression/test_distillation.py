"""Distillation: the loss against its formula in float64, and a student that learns what only the teacher knows."""

import numpy as np
import pytest

import minilm.functional as F
from minilm.compression import DistillationModel, distillation_loss
from minilm.errors import ConfigurationError
from minilm.models import GPT, GPTConfig
from minilm.random import Generator, using_generator
from minilm.tensor import Tensor
from minilm.testing import gradcheck
from minilm.text import BatchSource
from minilm.training import Trainer, TrainingArguments


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_hand(student, teacher, labels, temperature, alpha):
    soft = hard = 0.0
    places = [place for place in np.ndindex(labels.shape) if labels[place] != -100]
    for place in places:
        p, q = softmax(teacher[place] / temperature), softmax(student[place] / temperature)
        soft += (p * np.log(p / q)).sum()
        hard -= np.log(softmax(student[place])[labels[place]])
    return (alpha * temperature**2 * soft + (1 - alpha) * hard) / len(places)


GENERATOR = Generator(0)
STUDENT, TEACHER = (GENERATOR.normal((2, 3, 5), std=2.0, dtype="float64") for _ in range(2))
LABELS = np.array([[1, -100, 0], [4, 4, -100]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_loss_is_the_formula(temperature, alpha):
    loss = distillation_loss(Tensor(STUDENT), TEACHER, LABELS, temperature, alpha)
    assert loss.item() == pytest.approx(by_hand(STUDENT, TEACHER, LABELS, temperature, alpha), rel=1e-12)


def test_its_gradient_is_that_of_the_formula_and_stops_at_the_teacher():
    gradcheck(lambda s: distillation_loss(s, TEACHER, LABELS, 3.0, 0.7), [Tensor(STUDENT, requires_grad=True)])
    student, teacher = Tensor(STUDENT, requires_grad=True), Tensor(TEACHER, requires_grad=True)
    distillation_loss(student, teacher, LABELS).backward()
    assert teacher.grad is None
    assert not student.grad.numpy()[LABELS == -100].any()


def test_without_the_labels_the_teacher_itself_is_the_best_student():
    same = Tensor(TEACHER, requires_grad=True)
    loss = distillation_loss(same, TEACHER, LABELS, 2.0, alpha=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(same.grad.numpy(), 0, atol=1e-12)


def test_a_teacher_that_rules_a_token_out():
    teacher = np.where(np.arange(5) == 2, -np.inf, TEACHER)
    assert np.isfinite(distillation_loss(Tensor(STUDENT), teacher, LABELS).item())


def test_the_soft_gradient_keeps_its_size_at_any_temperature():
    """Hinton et al. 2015, section 2: it shrinks with 1 / temperature², which the loss makes up for."""

    def size(temperature):
        student = Tensor(STUDENT, requires_grad=True)
        distillation_loss(student, TEACHER, LABELS, temperature, 1.0).backward()
        return np.abs(student.grad.numpy()).sum()

    assert size(100.0) == pytest.approx(size(50.0), rel=0.05)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"temperature": 0.0}, ConfigurationError, "temperature=0.0"),
        ({"alpha": 1.5}, ConfigurationError, "alpha=1.5"),
        ({"teacher": TEACHER[..., :4]}, ValueError, "same vocabulary"),
        ({"labels": np.full((2, 3), -100)}, ConfigurationError, "no place"),
    ],
)
def test_what_makes_no_sense_is_told(change, error, message):
    arguments = {"student": Tensor(STUDENT), "teacher": TEACHER, "labels": LABELS, **change}
    with pytest.raises(error, match=message):
        distillation_loss(**arguments)


def gpt(seed=0, vocab_size=7, n_embd=16, dropout=0.0):
    with using_generator(Generator(seed)):
        return GPT(GPTConfig(vocab_size, 6, n_layer=1, n_head=2, n_embd=n_embd, dropout=dropout))


BATCH = {"input_ids": Generator(3).integers(0, 7, (4, 6)), "labels": Generator(4).integers(0, 7, (4, 6))}


def test_only_the_student_is_trained_saved_and_put_into_training_mode():
    student, teacher = gpt(0), gpt(1, n_embd=32, dropout=0.5)
    pair = DistillationModel(student, teacher)
    assert list(pair.state_dict()) == [f"student.{name}" for name in student.state_dict()]
    pair.eval().train()
    assert student.training and teacher.training, "the teacher is left in the mode that it was in"
    losses = {pair.loss(BATCH).item() for _ in range(3)}
    assert len(losses) == 1, "the teacher drops nothing"
    pair.loss(BATCH).backward()
    assert all(p.grad is None for p in teacher.parameters()) and all(p.grad is not None for p in student.parameters())


def test_in_training_it_is_the_loss_of_both_and_in_evaluation_the_students_own():
    student, teacher = gpt(0), gpt(1)
    pair = DistillationModel(student, teacher, temperature=3.0, alpha=0.4)
    logits = [m(BATCH["input_ids"]).numpy().astype("float64") for m in (student, teacher)]
    assert pair.loss(BATCH).item() == pytest.approx(by_hand(*logits, BATCH["labels"], 3.0, 0.4), rel=1e-5)
    assert pair.eval().loss(BATCH).item() == student.loss(BATCH).item()


def test_models_of_different_vocabularies_are_refused():
    with pytest.raises(ConfigurationError, match="7 tokens and the teacher 8"):
        DistillationModel(gpt(), gpt(vocab_size=8))


class OneBatch(BatchSource):
    def __len__(self):
        return 1

    def _batches(self, epoch, start):
        yield BATCH


def test_a_student_learns_what_only_the_teacher_knows(tmp_path):
    """The labels are noise; the teacher's opinion of them is what can be learnt."""
    student, teacher = gpt(0), gpt(1)
    for parameter in teacher.parameters():
        parameter.data *= 4  # opinions
    pair = DistillationModel(student, teacher, temperature=1.0, alpha=1.0)
    before = pair.loss(BATCH).item()
    arguments = TrainingArguments(tmp_path, max_steps=60, learning_rate=3e-2, save_strategy="no", progress=False)
    Trainer(pair, arguments, OneBatch()).train()
    after = pair.train().loss(BATCH).item()
    assert after < before / 5
    p = softmax(teacher(BATCH["input_ids"]).numpy())
    q = F.softmax(student(BATCH["input_ids"]), -1).numpy()
    assert np.abs(p - q).mean() < 0.05
