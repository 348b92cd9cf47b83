"""The interface between the engine of fine-tuning and a kind of task.

A kind of task, such as classification or reading comprehension, is a subclass of `Kind` in one
file. The subclass defines its data sets, how examples become rows of pieces, the head on the
encoder, and what is predicted, written and scored. The engine (`finetuning/engine.py`) does the
rest: checks, the cache of encoded rows, batches of similar length, training and exact resume,
evaluations, the best checkpoint, patience, seeds, results. The data go this way:

    files of a task   --read-->    `Data`: examples by split
    examples          --encode-->  `Encoded`: rows of pieces and columns; an example has >= 1 rows
    rows              (engine)     features of a batch, see below
    features          --build_head--> `HeadOutput`: the loss, or outputs of every row
    outputs of rows   --decode-->  predictions of the examples, in any form that the kind chooses
    predictions       --scores-->  numbers for the results, --write--> files for people and CLUE

Features of a batch of b rows, S pieces long (C sequences in a row, if the kind has several):

    input_ids, input_mask, segment_ids   int32 [b, S], or [b, C, S]
    every `Column` with in_batch         [b, ...], or [b, S] if per_piece; 0 for padding
    row_index                            int32 [b], the row in the `Encoded`; -1: fills up a batch
    is_real_row                          float32 [b], 0 for a row that fills up a batch

An object of a kind has no state: it serves all runs, and several threads of a predictor. Values
that several methods take:

    task       one of `Kind.tasks`: a named tuple with at least `name`, `labels` (a tuple of str, in
               the order of the head's outputs; () where the head has no labels)
    examples   list of the kind's own examples, of one split
    settings   any object with the attributes `encoding_flags` and `head_flags`: the parsed flags
               of a run, or the settings of a predictor
"""

from typing import Dict, List, NamedTuple, Optional

import tensorflow.compat.v1 as tf


class Data(NamedTuple):
    """A task and the examples of the splits that a run needs."""

    task: NamedTuple  # with its labels
    examples: Dict[str, list]  # by split
    files: Dict[str, List[str]]  # split -> paths; the file of the examples is the first
    findings: dict  # what json can write about the examples, for the report of the run


class HeadVariables(NamedTuple):
    """The variables of a head.

    Fields:
        head: name of the head in messages.
        example: name of one variable; a checkpoint without this variable has no head, so it cannot
            be scored.
        pattern: regular expression of all their names; a pre-trained checkpoint lacks them.
        untrained: regular expression of the encoder's variables on which the head does not depend,
            so that an optimizer has no slots for them; the default matches none.
    """

    head: str
    example: str
    pattern: str
    untrained: str = "$^"


class HeadOutput(NamedTuple):
    """What a head computes."""

    loss: Optional[tf.Tensor]  # float32 []; None when predicting
    outputs: Dict[str, tf.Tensor]  # name -> [b, ...]; empty when training
    scalars: Dict[str, tf.Tensor] = {}  # name -> float32 [], shown while training


class Kind:
    """A kind of task; a subclass sets the attributes and defines the methods that raise here.

    Attributes:
        script: str, the entry, for messages and for the report of a run.
        variables: `HeadVariables`.
        tasks: dict of lower-case --task_name to task; two names may have the same task.
        own_task: str, the name of the task for a user's own files.
        metrics: tuple of str, the scores that may choose the best checkpoint (higher is better);
            the default of --best_metric is the first of these scores.
        columns: tuple of `encoding.Column`, stored for every row or piece.
        encoding_flags: tuple of str, the flags on which `encode` depends, beside the tokenizer.
        head_flags: tuple of str, the flags on which the head and its loss depend.
        prediction_flags: tuple of str, the flags on which predictions of a trained model depend,
            beside the length; the model's `classifier.json` keeps their values.
        output_flags: tuple of str, the other flags on which the files of predictions depend.
    """

    script = "run_classifier.py"
    variables = HeadVariables("classifier", "output_weights", r"^output_(weights|bias)$")
    tasks = {}
    own_task = None
    metrics = ("accuracy", "macro_f1")
    columns = ()
    encoding_flags = ("max_seq_length",)
    head_flags = ("classifier_dropout_prob",)
    prediction_flags = ()
    output_flags = ()

    # ---------------------------------------------------------------------------- data

    def read(self, args, splits, folders):
        """Read and check the examples of some splits.

        Args:
            args: the parsed flags.
            splits: list of str, of train, dev and test. Examples of test may lack answers.
            folders: list of str, of the runs; without training the labels may come from their
                `classifier.json`.

        Returns:
            (`Data`, line for the user).

        Raises:
            UserError: names file, row, value and remedy of a mistake.
        """
        raise NotImplementedError

    def ignored_flags(self, args):
        """Return {name: what it is for} of the script's flags that a run of `args` ignores."""
        del args
        return {}

    def texts(self, examples):
        """Return all texts of examples as a list of str, to count unknown pieces."""
        raise NotImplementedError

    def takes_pairs(self, task):
        """Return whether a sequence may have two segments, which not every config allows."""
        del task
        return True

    def reads_alike(self, before, task):
        """Return whether a run of the task `before` may be scored on files of another task.

        In most kinds one of the two tasks must be the task for a user's own files, such as
        `sentence`.
        """
        del before, task
        return False

    # ------------------------------------------------------------------------ encoding

    def count_rows(self, examples, task, tokenizer, settings):
        """Return how many rows `encode` will make; the steps of an epoch depend on this number."""
        del task, tokenizer, settings
        return len(examples)

    def num_sequences(self, examples):
        """Return C, the sequences in a row of a split; None if a row is one sequence."""
        del examples

    def identity(self, example):
        """Return what the rows of an example depend on, as a JSON value for a fingerprint."""
        raise NotImplementedError

    def encode(self, examples, task, tokenizer, settings, num_workers=1):
        """Return the `encoding.Encoded` of examples, with all `columns`.

        See `encoding.encode_in_chunks` for several processes. A kind with several rows for an
        example stores the example's index in a column.
        """
        raise NotImplementedError

    # ------------------------------------------------------------------------- model

    def output_positions(self, features):
        """Return the positions, besides [CLS], where the head reads the last layer, int32 [B, P].

        None means all positions.

        Args:
            features: dict of a batch; input_ids and so on are [B, S] here, B being b or b*C.
        """
        del features

    def build_head(self, model, features, task, settings, is_training, totals=None):
        """Build the head on the encoder.

        Args:
            model: `modeling.AlbertModel` of the batch's sequences, [b*C, S] if there are several;
                `model.dropout_seeds.classifier` is the seed of a dropout here.
            features: dict of a batch.
            task, settings: see above.
            is_training: bool; with True the loss is needed, with False the outputs.
            totals: dict of `loss_divisors`, summed over the whole batch, of which this may be a
                part; None when predicting.

        Returns:
            `HeadOutput`.
        """
        raise NotImplementedError

    def loss_divisors(self, features):
        """Return a dict of name to float32 []: divisors of the loss, such as the number of rows."""
        return {"examples": tf.reduce_sum(features["is_real_row"])}

    def rate_factors(self, args):
        """Return a tuple of (prefix of variable names, factor of their learning rate)."""
        del args
        return ()

    # ------------------------------------------------------------------- predictions

    def decode(self, examples, task, encoded, outputs, settings):
        """Return the predictions of a split's examples, in their order.

        Args:
            examples, task, settings: see above.
            encoded: the `encoding.Encoded` of the examples.
            outputs: dict of name to array [rows, ...] in the order of the rows of `encoded`.
                Outputs with a second dimension of S have zeros after a row's length.
        """
        raise NotImplementedError

    def scores(self, examples, task, predictions):
        """Compare predictions with the answers of examples.

        Returns:
            dict that json can write; it has `metrics` among its keys. Evaluations during training
            record the dict's floats. If no example has an answer, the dict is {"examples": number}.
        """
        raise NotImplementedError

    def explain(self, examples, task, scores):
        """Warn of scores at chance level, and return tables for people: str, may be empty."""
        del examples, task, scores
        return ""

    def with_labels(self, task, labels):
        """Return a task with the labels of a trained model."""
        return task._replace(labels=tuple(labels))

    def example(self, task, values):
        """Return the example made of the values that a user gives to `serving.predictor.Predictor`.

        Raises:
            ValueError: for values of other types.
            UserError: for values that can have no answer.
        """
        raise NotImplementedError

    def answers(self, examples, task, predictions):
        """Return the answers to a user's examples: a list of dicts that json can write."""
        raise NotImplementedError

    def write(self, folder, data, predictions, settings):
        """Write the predictions of the test split and log the names of the files.

        Args:
            folder: str, of the run.
            data: `Data`.
            predictions: what `decode` returned for the test split.
            settings: the parsed flags.

        Returns:
            List of str, the names of the files in the folder.

        Raises:
            UserError: where a file cannot be written.
        """
        raise NotImplementedError
