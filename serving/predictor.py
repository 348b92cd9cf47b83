"""A model that is loaded once and predicts many times.

    from serving.predictor import Predictor

    predictor = Predictor("albert_tiny_lcqmc")  # the --output_dir of a fine-tuning run
    predictor.predict([("花呗怎么还款", "如何还花呗"), ("今天热吗", "今天冷吗")])
        # [{"label": "1", "probabilities": {"0": 0.02, "1": 0.98}}, ...]
    predictor.embed(["花呗怎么还款"])  # float32 [1, H]

    predictor = Predictor.of_pretrained("albert_tiny_zh", "albert_config_tiny.json", "vocab.txt")
    predictor.fill_masks(["北京是中国的[MASK]都。"], top=2)  # [[[("首", 0.93), ("故", 0.02)]]]

Texts are sorted by length and each batch is padded to its longest text. For outputs that depend on
[CLS] alone, the last layer is computed at [CLS] alone. Threads may share a predictor.

Dimension letters: n texts, B batch size, S longest of a batch, H hidden size, M masked pieces of a
batch, V vocabulary.
"""

import os

from common import tensorflow_settings

tensorflow_settings.set_environment()

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

import modeling
import tokenization
from checkpointing import inspection, model_files, restore, run_folder
from checkpointing.checkpoint_reader import Checkpoint
from common import files
from common.errors import UserError
from finetuning.inputs import check_vocab_size, check_vocabulary_of_start, task_name_of_start
from finetuning_data import tasks
from finetuning_data.encoding import encode_examples
from kinds import piece_heads
from kinds.classification import Classification
from kinds.registry import KINDS, OF_HEADS, kind_of
from serving import model_outputs
from tokenization import CLS, MASK, SEP

POOLINGS = ("mean", "cls", "pooled")
MASKED = "masked"
MASKED_LM_BIAS = "cls/predictions/output_bias"
BATCH_SIZE = 64
MAX_SEQ_LENGTH = 128  # default for a model that was pre-trained only
NO_CLASSIFIER = (
    "{0} is a model without classifier, which predicts no labels: give the --output_dir of "
    "run_classifier.py as --model_dir; or leave --model_dir out and give --checkpoint={0} with its "
    "--bert_config_file and --vocab_file, for masked pieces and vectors"
)


class Predictor:
    """A model that predicts labels or masked pieces, and makes vectors of texts.

    A fine-tuned model predicts labels. A model that was pre-trained only predicts masked pieces.

    Args:
        model_dir: str, the --output_dir of a fine-tuning run.
        checkpoint_path: str, a checkpoint or a folder with one. Default: the best of the run if
            one was kept, else the latest.
        max_seq_length: int, pieces of a text or pair; the longer text is cut first. Default: the
            length of the run.
        batch_size: int, texts that are computed at a time.

    Attributes:
        kind: `kind.Kind`; None for a model that was pre-trained only.
        task: of the kind, such as `tasks.Task`, with the model's labels in the order of its
            outputs; None for a model that was pre-trained only.
        config: `modeling.AlbertConfig`.
        tokenizer: `tokenization.FullTokenizer`.
        checkpoint: `Checkpoint`.
        max_seq_length: int.
        poolings: list of str, the POOLINGS that the model has. A converted model may lack its
            pooler.

    Raises:
        UserError: if the folder or the checkpoint holds no fine-tuned model.
    """

    def __init__(self, model_dir, checkpoint_path=None, max_seq_length=None, batch_size=BATCH_SIZE):
        _check_model_dir(model_dir)
        model = model_files.read(model_dir)
        source = os.path.join(model_dir, model_files.DESCRIPTION)
        checkpoint = Checkpoint(run_folder.find_best(checkpoint_path or model_dir))
        self.kind = kind_of(KINDS, model.task)
        if not checkpoint.holds(self.kind.variables.example):
            raise UserError(_without_head(checkpoint, model.task))
        model_files.check_labels(model.labels, checkpoint.prefix)
        vocabulary = (model.vocab_file, model.do_lower_case, model.spm_model_file)
        tokenizer = tokenization.FullTokenizer(*vocabulary)
        if checkpoint_path:
            given = model.spm_model_file or model.vocab_file
            check_vocabulary_of_start(given, tokenizer, checkpoint.prefix)
            _warn_of_task(model.task, checkpoint.prefix)
        task = self.kind.tasks[model.task.lower()]
        self.task = self.kind.with_labels(task, model.labels)
        length = max_seq_length or model.max_seq_length
        self.settings = model_outputs.settings_of(self.kind, length, model.settings)
        self._load(
            modeling.AlbertConfig.from_dict(model.config, source),
            tokenizer,
            checkpoint,
            length,
            batch_size,
        )

    @classmethod
    def of_pretrained(
        cls,
        checkpoint_path,
        config_file,
        vocab_file=None,
        do_lower_case=True,
        spm_model_file=None,
        max_seq_length=None,
        batch_size=BATCH_SIZE,
    ):
        """Return a predictor of a model without classifier.

        Args:
            checkpoint_path: str, a checkpoint or a folder with one.
            config_file: str, JSON file of the model.
            vocab_file, do_lower_case, spm_model_file: of `tokenization.FullTokenizer`.
            max_seq_length: int, default MAX_SEQ_LENGTH.
            batch_size: int, texts that are computed at a time.

        Raises:
            UserError: if checkpoint, config and vocabulary do not fit each other.
        """
        self = cls.__new__(cls)
        self.kind = self.task = self.settings = None
        config = modeling.AlbertConfig.from_json_file(config_file)
        tokenizer = tokenization.FullTokenizer(vocab_file, do_lower_case, spm_model_file)
        vocabulary = spm_model_file or vocab_file
        check_vocab_size(vocabulary, tokenizer, config, config_file)
        prefix = run_folder.find_best(checkpoint_path)
        _warn_of_classifier(prefix)
        check_vocabulary_of_start(vocabulary, tokenizer, prefix)
        self._load(
            config,
            tokenizer,
            Checkpoint(prefix),
            max_seq_length or MAX_SEQ_LENGTH,
            batch_size,
        )
        return self

    def _load(self, config, tokenizer, checkpoint, max_seq_length, batch_size):
        config.check_sequence_length(max_seq_length)
        model_files.check_config(config, checkpoint.prefix)
        self.config, self.tokenizer, self.checkpoint = config, tokenizer, checkpoint
        self.max_seq_length = max_seq_length
        self._batch_size, self._has_warned_of_cuts = batch_size, False
        with tf.Graph().as_default() as graph:
            inputs = model_outputs.placeholders()
            tensors = list(inputs.values())
            outputs = model_outputs.build_vectors(config, tensors, self.num_labels)
            if checkpoint.holds(MASKED_LM_BIAS):
                outputs[MASKED] = model_outputs.build_masked(config, tensors, tokenizer.vocab[MASK])
            # A product of matrices uses all cores. Other ops are too small for a second thread.
            options = tf.ConfigProto(inter_op_parallelism_threads=-1, allow_soft_placement=True)
            options.gpu_options.allow_growth = True
            session = tf.Session(config=options)
            if self.kind and self.num_labels is None:
                self._compute_kind = self._build_kind(session)
            plan = self.load_weights(session)
            restore.log_restore(plan, checkpoint.prefix)
            graph.finalize()
        if plan.missing:  # only the pooler may be missing
            del outputs["pooled"]
        self.poolings = [pooling for pooling in POOLINGS if pooling in outputs]
        self._widths = {name: tensor.shape.as_list()[-1] for name, tensor in outputs.items()}
        self._computations = {
            name: _function(session, inputs, {name: tensor}) for name, tensor in outputs.items()
        }

    def load_weights(self, session):
        """Load the weights into a session's graph, 0 for a pooler that is missing and not needed.

        Returns:
            `restore.RestorePlan`.
        """
        untrained = self.kind.variables.untrained if self.kind else piece_heads.UNTRAINED
        return restore.load_weights(session, self.checkpoint, untrained)

    def _build_kind(self, session):
        """Return the function that computes the outputs of the kind's head, see `_function`."""
        inputs = model_outputs.placeholders(self.kind)
        outputs = model_outputs.build(self.kind, self.config, self.task, self.settings, inputs)
        return _function(session, inputs, outputs)

    @property
    def num_labels(self):
        """The number of labels of a classifier, None for any other model."""
        return len(self.task.labels) if isinstance(self.kind, Classification) else None

    def predict(self, texts):
        """Predict the label of texts or pairs, or the answers of another kind of task.

        Args:
            texts: list of str, or of pairs of str where the task is one of pairs. For another kind
                of task a list of what its `Kind.example` takes, such as dicts of `context`,
                `question` and `choices`.

        Returns:
            List of dicts in the order of the texts: `label`, the most probable one, and
            `probabilities`, a dict of label to float. For another kind of task,
            the answers that its `Kind.answers` returns.

        Raises:
            UserError: for a text where the task takes a pair, or the other way round, and for a
                model that was pre-trained only.
        """
        if self.kind and self.num_labels is None:
            _refuse_single(texts)
            examples = [self.kind.example(self.task, values) for values in texts]
            if not examples:
                return []
            return self.kind.answers(examples, self.task, self.decode(examples))
        return [answer(self.task.labels, row) for row in self.probabilities(texts)]

    def decode(self, examples, progress=None):
        """Return a kind's predictions, what its `Kind.decode` returns, for its own examples.

        Args:
            examples: list, not empty.
            progress: as in `probabilities`.
        """
        encoded, outputs = self.outputs(examples, progress)
        return self.kind.decode(examples, self.task, encoded, outputs, self.settings)

    def outputs(self, examples, progress=None):
        """Return the `encoding.Encoded` rows of a kind's examples, and the outputs of its head.

        Args:
            examples, progress: as in `decode`.

        Returns:
            (Encoded, dict of name to array [rows, ...]).
        """
        encoded = self.kind.encode(examples, self.task, self.tokenizer, self.settings)
        return encoded, self._compute_rows(encoded, self._compute_kind, progress)

    def probabilities(self, texts, progress=None):
        """Return float32 [n, labels], the labels in the order of `task.labels`.

        Args:
            texts, Raises: as in `predict`.
            progress: function of (pieces computed, pieces in all), called after every batch.
        """
        if self.num_labels is None:
            raise UserError("the model has no classifier: fine-tune it, or ask it for embeddings")
        texts = _as_tuples(texts)
        for number, row in enumerate(texts):
            check_number(self.task, row, "text {}: ".format(number))
        return self._compute("probabilities", texts, progress)

    def embed(self, texts, pooling="mean", progress=None):
        """Make a vector of each text or pair.

        Args:
            texts: list of str, or of pairs of str.
            pooling: `mean` of the last layer over all pieces, special ones included; `cls`, the
                last layer at [CLS]; or `pooled`, the output of the pooler, which classifiers read.
            progress: as in `probabilities`.

        Returns:
            float32 [n, H].
        """
        if pooling in POOLINGS and pooling not in self.poolings:
            text = "{} was saved without the pooler: give --pooling=mean or --pooling=cls"
            raise UserError(text.format(self.checkpoint.prefix))
        return self._compute(pooling, _as_tuples(texts), progress)

    def fill_masks(self, texts, top=5):
        """Predict the pieces that "[MASK]" stands for.

        Args:
            texts: list of str.
            top: int, how many pieces are returned for a "[MASK]".

        Returns:
            For each text a list, with a list for each "[MASK]": (piece, probability), best first.

        Raises:
            UserError: for a model without the weights of masked-piece prediction, and for a text
                whose "[MASK]" is after the last piece that the model reads.
        """
        answers = []
        for begin in range(0, len(texts), self._batch_size):
            rows = texts[begin : begin + self._batch_size]
            batch = self.masked_batch(rows)
            probabilities = iter(self.masked_probabilities(batch))
            for row, ids in zip(rows, batch["input_ids"]):
                count = self._num_masks(ids)
                self._refuse_lost(row, count)
                answers.append([self._best(next(probabilities), top) for _ in range(count)])
        return answers

    def check_masks(self, text, where=""):
        """Raise `UserError` if a "[MASK]" is after the last piece that the model reads.

        Args:
            text: str.
            where: str, the place of the text, for the error.
        """
        self._refuse_lost(text, self._num_masks(self.masked_batch([text])["input_ids"]), where)

    def _num_masks(self, ids):
        return np.sum(ids == self.tokenizer.vocab[MASK])

    def _refuse_lost(self, text, num_masks, where=""):
        if num_masks < text.count(MASK):
            raise UserError(
                "{}a {} is after piece {} of {!r}: give a larger max_seq_length".format(
                    where, MASK, self.max_seq_length - 1, text
                )
            )

    def _best(self, probabilities, top):
        """Return the `top` most probable (piece, probability) of float [V], best first."""
        ids = np.argsort(-probabilities, kind="stable")[:top].tolist()
        pieces = [self.name_of(piece_id) for piece_id in ids]
        return list(zip(pieces, probabilities[ids].tolist()))

    def name_of(self, piece_id):
        """Return the piece of an id, or a name for an id of the model that has no piece."""
        return self.tokenizer.inv_vocab.get(piece_id, "[id {}]".format(piece_id))

    def masked_probabilities(self, batch):
        """Return float32 [M, V], the probabilities at every [MASK] of a batch, row after row.

        Args:
            batch: what `masked_batch` returns.
        """
        if MASKED not in self._computations:
            raise UserError(
                "{} holds no weights for masked pieces: give a pre-trained checkpoint".format(
                    self.checkpoint.prefix
                )
            )
        return self._computations[MASKED](batch)[MASKED]

    def masked_batch(self, texts):
        """Return the feeds, see `padded_rows`, of texts in which "[MASK]" stands for that piece."""
        cls_id, sep_id, mask_id = self.tokenizer.convert_tokens_to_ids((CLS, SEP, MASK))
        rows = []
        for text in texts:
            ids = []
            for part in text.split(MASK):
                ids += [mask_id] + self.tokenizer.encode(part).ids.tolist()
            rows.append([cls_id] + ids[1 : self.max_seq_length - 1] + [sep_id])
        mask = np.arange(max(map(len, rows))) < np.array([[len(row)] for row in rows])
        ids = np.zeros(mask.shape, np.int32)
        ids[mask] = np.concatenate(rows)
        return dict(zip(model_outputs.INPUTS, (ids, mask.astype(np.int32), np.zeros_like(ids))))

    def _compute(self, name, texts, progress):
        if any(len(text) == 2 for text in texts):
            self.config.check_pairs()
        examples = [tasks.Example("", *text) for text in texts]
        if not examples:
            return np.empty([0, self._widths[name]], np.float32)
        encoded = encode_examples(examples, (), self.tokenizer, self.max_seq_length)
        return self._compute_rows(encoded, self._computations[name], progress)[name]

    def _compute_rows(self, encoded, function, progress):
        is_cut = encoded.full_lengths > np.diff(encoded.begins)
        if is_cut.any() and not self._has_warned_of_cuts:
            self._has_warned_of_cuts = True
            line = "%d of %d texts are longer than %d pieces and lose their end; not logged again"
            logging.warning(line, np.sum(is_cut), len(is_cut), self.max_seq_length)
        return model_outputs.compute(encoded, function, self._batch_size, progress)


def _function(session, inputs, outputs):
    """Return a function from a dict of feeds to a dict of arrays; its arguments are dicts too."""
    names = list(inputs)
    function = session.make_callable(outputs, [inputs[name] for name in names])
    return lambda feeds: function(*(feeds[name] for name in names))


def _warn_of_classifier(prefix):
    """Warn if a checkpoint that is taken for a pre-trained one has a classifier, and labels."""
    description = model_files.find(prefix, model_files.DESCRIPTION)
    head, _ = inspection.tuned_head(Checkpoint(prefix).model_shapes())
    if description and head:
        logging.warning(
            "CLASSIFIER LEFT OUT: to predict labels with %s, give only "
            "--model_dir=%s --checkpoint=%s",
            prefix,
            os.path.dirname(description),
            prefix,
        )


def _warn_of_task(task, prefix):
    """Warn if a checkpoint was trained on another task, whose labels mean other things."""
    trained = task_name_of_start(prefix)
    if trained not in (None, task.lower()):
        line = "ANOTHER TASK: %s was trained for %s, not for %s, as the model's folder says"
        logging.warning(line, prefix, trained, task)


def _check_model_dir(path):
    """Raise `UserError` for a path that is not a folder, and for a folder without classifier."""
    if files.exists(path + ".index"):
        folder = os.path.dirname(path) or "."
        if not files.exists(os.path.join(folder, model_files.DESCRIPTION)):
            folder = "OUTPUT_DIR"
        text = "--model_dir={} is a checkpoint: give --model_dir={} --checkpoint={}"
        raise UserError(text.format(path, folder, path))
    if not files.is_folder(path):
        raise UserError(
            "--model_dir={} {}: give the --output_dir of a run of run_classifier.py".format(
                path, "is a file" if files.exists(path) else "does not exist"
            )
        )
    if not files.exists(os.path.join(path, model_files.DESCRIPTION)):
        prefix = run_folder.find_best(path)
        if not inspection.tuned_head(Checkpoint(prefix).model_shapes())[0]:
            raise UserError(NO_CLASSIFIER.format(prefix))


def _without_head(checkpoint, task):
    """Return a sentence: what to do with a checkpoint that lacks the head of a task."""
    head, _ = inspection.tuned_head(checkpoint.model_shapes())
    if not head:
        return NO_CLASSIFIER.format(checkpoint.prefix)
    text = "{} is a model of {}, and the task of --model_dir is {}: give a checkpoint of that run"
    return text.format(checkpoint.prefix, OF_HEADS[head].variables.head, task)


def answer(labels, row):
    """Return `Predictor.predict`'s dict of a text from its probabilities, float [labels]."""
    return {
        "label": labels[int(np.argmax(row))],
        "probabilities": dict(zip(labels, (float(probability) for probability in row))),
    }


def check_number(task, texts, where):
    """Raise a `UserError` that begins with `where` if a task takes another number of texts."""
    wanted = len(task.fields) - 1  # beside the label
    if len(texts) != wanted:
        expected = "a pair of texts" if wanted == 2 else "one text"
        message = "{}task {} takes {} and gets {}"
        raise UserError(message.format(where, task.name, expected, len(texts)))


def _refuse_single(texts):
    """Raise ValueError for an example in place of a list: its characters are no examples."""
    if isinstance(texts, (str, dict)):
        raise ValueError("a list of texts is expected, not {!r}".format(texts))


def _as_tuples(texts):
    """Return texts and pairs as a list of tuples of one or two."""
    _refuse_single(texts)
    # The tuple of a dict would have its names in place of its texts.
    rows = [(text,) if isinstance(text, (str, dict)) else tuple(text) for text in texts]
    for row in rows:
        if len(row) not in (1, 2) or not all(isinstance(part, str) for part in row):
            raise ValueError("{!r} is neither a text nor a pair of texts".format(row))
    return rows
