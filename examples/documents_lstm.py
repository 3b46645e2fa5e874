"""The LSTM language model of many introductions, in a version that runs.

    python examples/documents_lstm.py texts.csv                  (a CSV file with a column `text`)
    python examples/documents_lstm.py texts.csv --epochs 10

An embedding of 1000 words in 100 channels, two LSTM layers of width 100, and a linear decoder that reads the last
step only: from the 20 words before, it predicts the next one. Trained with cross-entropy and Adam. The program
follows the one that articles about language models print (there in PyTorch, with torchtext's fields and spaCy's
words); where a comment says "the original", it tells what was wrong there.

Words outside the vocabulary are one token, <unk>, often the most frequent one: loss and accuracy count it as a word.
minilm.models.LSTMLM is the same model made well: it predicts a word at every step, not at the last one only, so that
a pass over the same words gives it twenty times as many examples.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np

import minilm
import minilm.functional as F
from minilm import Tensor, nn, no_grad
from minilm.errors import MinilmError
from minilm.optim import Adam
from minilm.text import ShuffledBatches, TokenWindows, WordTokenizer, read_documents, split_documents

VOCAB_SIZE = 1000
EMBEDDING_DIM = 100
HIDDEN_DIM = 100
LAYER_DIM = 2
CONTEXT = 20
BATCH_SIZE = 32


class LSTMLanguageModel(nn.Module):
    """ids (B, T) -> logits (B, V) of the word that follows the last one."""

    def __init__(self, vocab_size: int, embedding_dim: int, hidden_dim: int, layer_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.layer_dim = layer_dim  # the original did not keep it, and then used it in init_hidden
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim, layer_dim)
        self.decoder = nn.Linear(hidden_dim, vocab_size)

    def init_hidden(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """h and c, zeros (layer_dim, B, hidden_dim) each. (nn.LSTM starts so by itself if it is given none.)"""
        # In the original B was 1, whatever the batch.
        zeros = np.zeros((self.layer_dim, batch_size, self.hidden_dim), dtype=np.float32)
        return Tensor(zeros), Tensor(zeros)

    def forward(self, ids: np.ndarray) -> Tensor:
        embedded = self.embedding(ids)  # (B, T, C)
        output, _ = self.lstm(embedded, self.init_hidden(len(ids)))  # (B, T, H)
        return self.decoder(output[:, -1])  # (B, V)


def last_word(batch: dict[str, np.ndarray]) -> np.ndarray:
    """(B,): the word after each window."""
    # One id a row. The original gave it a second axis, (B, 1), which cross-entropy refuses.
    return batch["labels"][:, -1]


def train_epoch(model: LSTMLanguageModel, batches: ShuffledBatches, optimizer: Adam, epoch: int) -> float:
    """One pass over the batches; the mean loss in nats."""
    model.train()
    losses = []
    for batch in batches.epoch(epoch):
        loss = F.cross_entropy(model(batch["input_ids"]), last_word(batch))
        model.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses))


@no_grad()
def evaluate(model: LSTMLanguageModel, batches: ShuffledBatches) -> tuple[float, float]:
    """Mean loss in nats, and the share of windows whose next word is the most probable one."""
    model.eval()
    total, right, count = 0.0, 0, 0
    for batch in batches:
        logits, target = model(batch["input_ids"]), last_word(batch)
        total += F.cross_entropy(logits, target, reduction="sum").item()
        # One argmax a row, over the words. The original took a single one over the whole batch.
        right += int((logits.numpy().argmax(axis=-1) == target).sum())
        count += len(target)
    return total / count, right / count


def main() -> None:
    """Read, train, evaluate."""
    parser = argparse.ArgumentParser(description="Train the documents' LSTM language model on a CSV file.")
    parser.add_argument("csv", type=Path, help="a CSV file with a column of texts")
    parser.add_argument("--text-column", default="text", help="the name of that column (text)")
    parser.add_argument("--epochs", type=int, default=100, help="passes over the training texts (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the order of batches (0)")
    arguments = parser.parse_args()
    minilm.manual_seed(arguments.seed)

    # The original read with torchtext's Field and TabularDataset, which were removed from torchtext.
    documents = read_documents(arguments.csv, text_column=arguments.text_column)
    train_texts, validation_texts, test_texts = split_documents(documents)
    # The vocabulary comes from the training texts alone; rarer words share one token, <unk>.
    tokenizer = WordTokenizer.train(train_texts, lower=True, max_size=VOCAB_SIZE)
    train, validation, test = (
        TokenWindows(np.concatenate([tokenizer.encode(text) for text in texts]), CONTEXT)
        for texts in (train_texts, validation_texts, test_texts)
    )
    batches = ShuffledBatches(train, BATCH_SIZE, arguments.seed, drop_last=False)
    print(
        f"{len(documents)} texts, {len(train.tokens)} words to train on; the vocabulary has {tokenizer.vocab_size} "
        f"words, and {np.mean(train.tokens == 0):.0%} of the text is other ones, <unk>"
    )

    model = LSTMLanguageModel(VOCAB_SIZE, EMBEDDING_DIM, HIDDEN_DIM, LAYER_DIM)
    optimizer = Adam(model.parameters(), lr=0.001)
    for epoch in range(arguments.epochs):
        train_loss = train_epoch(model, batches, optimizer, epoch)
        loss, accuracy = evaluate(model, ShuffledBatches(validation, BATCH_SIZE, drop_last=False))
        print(
            f"epoch {epoch + 1:3d}: training loss {train_loss:.3f}, validation loss {loss:.3f}, "
            f"perplexity {math.exp(loss):.1f}, accuracy {accuracy:.1%}",
            flush=True,
        )
    loss, accuracy = evaluate(model, ShuffledBatches(test, BATCH_SIZE, drop_last=False))
    print(f"test loss {loss:.3f}, perplexity {math.exp(loss):.1f}, accuracy {accuracy:.1%}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except (MinilmError, OSError) as error:
        sys.exit(f"error: {error}")
