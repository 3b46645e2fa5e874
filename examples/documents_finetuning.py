"""The fine-tuning of many introductions: a BERT that learns to tell good reviews from bad ones.

    python examples/documents_finetuning.py rt_polarity          (a corpus, a folder with a file for each class, or a
                                                                  CSV file with the columns `text` and `label`)
    python examples/documents_finetuning.py reviews.csv --text-column review --label-column verdict

The lines between "the documents' program" and its end are the ones that articles about language models print, word for
word but for the imports: there they are Hugging Face's, here ours. They start from bert-base-uncased; the weights here
are those of all-MiniLM-L6-v2 (`make pretrained`), a BERT small enough for two cores. The articles leave open where the
two datasets come from: nine tenths of the texts are for training, and a tenth is held out.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from minilm import manual_seed
from minilm.errors import MinilmError
from minilm.evaluation import evaluate_classifier
from minilm.models import BERTForSequenceClassification
from minilm.pretrained import from_pretrained, save_pretrained, write_class_names
from minilm.text import OrderedBatches, class_names, read_labelled, split_labelled
from minilm.training import Interrupted, Trainer, TrainingArguments

LONGEST = 128  # tokens; what is longer is cut


def main() -> None:
    """Read, train, evaluate."""
    parser = argparse.ArgumentParser(description="Fine-tune a BERT on texts with classes, as the documents do.")
    parser.add_argument("data", help="a table, a folder with a file for each class, or rt_polarity")
    parser.add_argument("--text-column", default="text", help="the name of the column of texts (text)")
    parser.add_argument("--label-column", default="label", help="the name of the column of classes (label)")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="a folder, or the name of an installed model")
    parser.add_argument("--limit", type=int, help="use so many texts only, to try it out")
    parser.add_argument("--out", type=Path, help="write the trained model to this folder")
    parser.add_argument("--seed", type=int, default=0, help="of the weights of the head (0)")
    arguments = parser.parse_args()

    examples = read_labelled(arguments.data, arguments.text_column, arguments.label_column)
    names = class_names(example.label for example in examples)
    if arguments.limit is not None and arguments.limit < 2:
        parser.error(f"--limit {arguments.limit}: a classifier needs two texts at least")
    if arguments.limit is not None:  # from all over: a file for each class gives one class after the other
        examples = examples[:: max(1, len(examples) // arguments.limit)]
    manual_seed(arguments.seed)
    model, tokenizer = from_pretrained(
        arguments.model, kind=BERTForSequenceClassification, num_labels=len(names)
    )

    def encoded(part):
        """Examples as the trainer takes them, which pads those of a batch to the longest of it."""
        return [
            {**tokenizer.pair(tokenizer.encode(text), max_length=LONGEST)._asdict(), "labels": names.index(label)}
            for text, label in part
        ]

    train_dataset, eval_dataset = (encoded(part) for part in split_labelled(examples, (0.9, 0.1)))
    print(f"{len(train_dataset)} texts to train on, {len(eval_dataset)} held out; the classes are {', '.join(names)}")

    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)  # where that is not allowed it is told before the training
    with tempfile.TemporaryDirectory() as output_dir:
        # ----- the documents' program
        training_args = TrainingArguments(
            output_dir=output_dir,
            num_train_epochs=3,
            per_device_train_batch_size=16,
            per_device_eval_batch_size=16,
        )
        trainer = Trainer(
            model=model,
            args=training_args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
        )
        trainer.train()
        # ----- its end

    figures = evaluate_classifier(model, OrderedBatches(eval_dataset, 16), names)
    values = figures.values
    print(f"held out: accuracy {values['accuracy']:.4f}, macro F1 {values['macro_f1']:.4f}, {figures.documents} texts")
    if arguments.out:
        save_pretrained(model, tokenizer, arguments.out)
        write_class_names(arguments.out, names)  # for minilm classify


if __name__ == "__main__":
    try:
        main()
    except (Interrupted, KeyboardInterrupt):  # what the trainer saved is gone with its temporary folder
        sys.exit("interrupted")
    except (MinilmError, OSError) as error:
        sys.exit(f"error: {error}")
