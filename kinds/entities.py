"""Named entities: labels of pieces, with or without a CRF, and entities as spans of characters."""

import os
from typing import Dict, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging

from checkpointing import model_files
from common import files
from common.errors import UserError
from finetuning_data import data_report, encoding, entity_files, label_decoding, tasks
from kinds import entity_scores, piece_heads
from kinds.kind import Data, HeadOutput, HeadVariables, Kind
from kinds.pieces import (
    CHAR_BEGINS,
    CHAR_ENDS,
    EXAMPLE,
    IS_OWN,
    encode_text,
    owned_by,
    pieces_of,
    windows_of,
)
from tokenization import CLS, SEP, Encoding

PREDICTIONS = "predictions.jsonl"
SCOPE = "cls/labels"
TRANSITIONS = SCOPE + "/transitions"
# Suffixes of the files of entities, in the order in which they are looked for.
SUFFIXES = (".json", ".jsonl", ".tsv", ".txt", ".char.bmes", ".bmes", ".bioes", ".bio", ".conll")
# Texts whose labels are decided at a time.
CHUNK_TEXTS = 256
CLUENER_TYPES = ("address", "book", "company", "game", "government", "movie", "name")
CLUENER_TYPES += ("organization", "position", "scene")

# 1 + the label's id; 0 for pieces that are not learned: special pieces, pieces of other windows.
TARGETS = encoding.Column("targets", per_piece=True)


def _files(*more):
    """Return split -> names of its files; {} in `more` is replaced by the split."""
    return {
        split: tuple(name.format(split) for name in more)
        + tuple(split + suffix for suffix in SUFFIXES)
        for split in tasks.SPLITS
    }


class EntityTask(NamedTuple):
    """A data set of entities.

    Fields:
        name: as given by --task_name.
        types: of its entities; empty: the types of the train file.
        labels: of pieces, see `label_decoding.label_names`; empty until the types are known.
        files: split -> file names below the data folder; the first that exists is read.
        submission: name of the file with the predictions for CLUE; None if CLUE has no such task.
    """

    name: str
    types: Tuple[str, ...] = ()
    labels: Tuple[str, ...] = ()
    files: Dict[str, Tuple[str, ...]] = _files()
    submission: Optional[str] = None

    @property
    def scheme(self):
        return "bioes" if any(label[0] in "ES" for label in self.spelled) else "bio"

    @property
    def spelled(self):
        """The labels as `label_decoding` spells them; converted models may spell otherwise."""
        return [label_decoding.spelled(label) for label in self.labels]


_WEIBO = ("weiboNER_2nd_conll.{}", "weiboNER_2nd_conll.{}_deseg", "weiboNER.conll.{}")
_TASKS = (
    EntityTask("cluener", CLUENER_TYPES, submission="cluener_predict.json"),
    EntityTask("msra_ner", files=_files("msra_{}_bio", "msra_{}_bio.txt")),
    EntityTask("resume_ner"),
    EntityTask("weibo_ner", files=_files(*_WEIBO)),
    EntityTask("ner"),  # files of a user's own
)


class Entities(Kind):
    """Entities in texts; predictions are lists of (begin, end, type), one list for each text."""

    script = "run_ner.py"
    variables = HeadVariables(
        "labels of pieces", SCOPE + "/output_weights", "^{}/".format(SCOPE), piece_heads.UNTRAINED
    )
    tasks = {task.name: task for task in _TASKS}
    own_task = "ner"
    metrics = ("f1", "macro_f1", "cluener_f1")
    columns = (TARGETS, EXAMPLE, IS_OWN, CHAR_BEGINS, CHAR_ENDS)
    head_flags = ("classifier_dropout_prob", "crf", "crf_rate_factor")
    prediction_flags = ("crf",)

    # ---------------------------------------------------------------------------- data

    def read(self, args, splits, folders):
        """See `Kind.read`; types come from the task, from --labels, or from the train file."""
        task = self._task(args, folders)
        texts, paths = {}, {}
        for split in splits:
            path = tasks.find_file(task, args.data_dir, split)
            paths[split] = [path]
            texts[split] = entity_files.read_texts(
                path, task.types, split != "test", args.skip_bad_rows
            )
            if split == "train":
                task = _with_types(task, task.types or entity_files.types_of(texts[split]), args)
                if not task.types:
                    raise UserError("{}: no text has an entity to learn from".format(path))
                texts["train"] = data_report.sample_examples(
                    texts["train"], args.max_train_examples, args.random_seed
                )
        findings = _report(task.types, texts)
        counts = ", ".join("{:,} {}".format(len(texts[split]), split) for split in texts)
        line = "{}: {} types, {}, texts: {}".format(task.name, len(task.types), task.scheme, counts)
        return Data(task, texts, paths, findings), line

    def _task(self, args, folders):
        """Return the task of the flags; without training, the folder of a run gives its labels."""
        task = self.tasks[args.task_name.lower()]
        types = tuple(name.strip() for name in args.labels or ())
        if types and task.types:
            raise UserError(
                "task {} has its own types, {}: leave yours out, or use ner for files of your "
                "own".format(task.name, ", ".join(task.types))
            )
        if label_decoding.OUTSIDE in types:
            raise UserError(
                "labels {}: O means no entity: leave it out, and give only types".format(
                    ", ".join(types)
                )
            )
        if len(set(types)) < len(types) or "" in types:
            raise UserError("labels {}: give different ones".format(", ".join(types)))
        start = None if args.do_train else args.init_checkpoint
        model = model_files.find_description(folders, start)
        if model and model.task in self.tasks:
            trained = {"crf": bool(model.settings.get("crf"))}
            if args.do_train:
                trained["label_scheme"] = self.with_labels(task, model.labels).scheme
            for name, value in trained.items():
                if getattr(args, name) != value:
                    text = "the model was trained with --{}={}: give this flag"
                    raise UserError(text.format(name, value))
        if not args.do_train:
            if not model:
                raise UserError(
                    "the labels of task {} are not known: give the --output_dir or "
                    "--init_checkpoint of a finished training of run_ner.py".format(task.name)
                )
            return self.with_labels(task, model.labels)
        return _with_types(task, types or task.types, args)

    def ignored_flags(self, args):
        """See `Kind.ignored_flags`."""
        return {} if args.crf else {"crf_rate_factor": "--crf=True"}

    def texts(self, examples):
        """See `Kind.texts`."""
        return [example.text for example in examples]

    def takes_pairs(self, task):
        """See `Kind.takes_pairs`."""
        return False

    def reads_alike(self, before, task):
        """See `Kind.reads_alike`; the labels are compared later."""
        return "ner" in (before.name, task.name)

    # ------------------------------------------------------------------------ encoding

    def count_rows(self, examples, task, tokenizer, settings):
        """See `Kind.count_rows`; warns of entities that do not begin and end with pieces."""
        num_rows = num_entities = num_inexact = 0
        for example in examples:
            labelled = _labelled(example, task, tokenizer)
            num_rows += len(_windows(len(labelled.pieces.ids), settings))
            num_entities += len(example.entities or ())
            num_inexact += labelled.num_inexact
        if num_inexact:
            logging.warning(
                "INSIDE OF PIECES: %d of %d entities of the train file begin or end inside of a "
                "piece, such as a number or a Latin word, or have no piece: the model learns the "
                "whole pieces",
                num_inexact,
                num_entities,
            )
        return num_rows

    def identity(self, example):
        """See `Kind.identity`."""
        return example.text, example.entities

    def encode(self, examples, task, tokenizer, settings, num_workers=1):
        """See `Kind.encode`; a row is a window of a text."""
        cls_id, sep_id = tokenizer.convert_tokens_to_ids([CLS, SEP])

        def encode_some(first_index, some):
            rows = []
            for index, example in enumerate(some, first_index):
                labelled = _labelled(example, task, tokenizer)
                windows = _windows(len(labelled.pieces.ids), settings)
                rows += _rows(index, labelled, windows, cls_id, sep_id)
            return _encoded(rows)

        return encoding.encode_in_chunks(encode_some, examples, num_workers)

    # -------------------------------------------------------------------------- model

    def build_head(self, model, features, task, settings, is_training, totals=None):
        """See `Kind.build_head`."""
        num_labels = len(task.labels)
        rate = settings.classifier_dropout_prob if is_training else 0.0
        scores = piece_heads.piece_scores(model, num_labels, SCOPE, rate)  # [B, S, L]
        transitions = None
        if settings.crf:
            transitions = tf.get_variable(
                TRANSITIONS, [num_labels, num_labels], initializer=tf.zeros_initializer()
            )
        if is_training:
            loss = _loss(scores, transitions, features["targets"])
            return HeadOutput(tf.math.divide_no_nan(loss, totals["pieces"]), {})
        if transitions is None:
            return HeadOutput(None, {"scores": tf.nn.log_softmax(scores)})
        copies = tf.tile(transitions[tf.newaxis], [tf.shape(scores)[0], 1, 1])  # [B, L, L]
        return HeadOutput(None, {"scores": scores, "transitions": copies})

    def loss_divisors(self, features):
        """See `Kind.loss_divisors`: the number of pieces that are learned."""
        return {"pieces": tf.reduce_sum(tf.cast(features["targets"] > 0, tf.float32))}

    def rate_factors(self, args):
        """See `Kind.rate_factors`."""
        return ((TRANSITIONS, args.crf_rate_factor),) if args.crf else ()

    # ------------------------------------------------------------------- predictions

    def decode(self, examples, task, encoded, outputs, settings):
        """See `Kind.decode`; the best legal sequence of labels decides."""
        scores = outputs["scores"]
        transitions = outputs["transitions"][0] if "transitions" in outputs else 0.0
        windows = [[] for _ in examples]  # `_Scored` of each text
        for row, index in enumerate(encoded.columns[EXAMPLE.name].tolist()):
            own = np.flatnonzero(encoded.column(row, IS_OWN.name))
            begins = encoded.column(row, CHAR_BEGINS.name)[own]
            ends = encoded.column(row, CHAR_ENDS.name)[own]
            windows[index].append(_Scored(scores[row, own], begins, ends))
        texts = [_Scored(*map(np.concatenate, zip(*of_text))) for of_text in windows]
        found = [[] for _ in examples]
        order = sorted(range(len(examples)), key=lambda index: len(texts[index].begins))
        for begin in range(0, len(order), CHUNK_TEXTS):
            some = order[begin : begin + CHUNK_TEXTS]
            decided = _decide([texts[index].scores for index in some], transitions, task)
            for index, spans in zip(some, decided):
                begins, ends = texts[index].begins, texts[index].ends
                found[index] = label_decoding.spans_in_text(spans, begins, ends)
        return found

    def scores(self, examples, task, predictions):
        """See `entity_scores.entity_scores`."""
        rows = [row for row in zip(examples, predictions) if row[0].entities is not None]
        if not rows:
            return {"examples": len(examples)}
        right = [[tuple(entity) for entity in example.entities] for example, _ in rows]
        texts = [example.text for example, _ in rows]
        return entity_scores.entity_scores(right, [found for _, found in rows], texts, task.types)

    def explain(self, examples, task, scores):
        """See `Kind.explain`."""
        if "f1" not in scores:
            return ""
        if scores["entities"] and not scores["f1"]:
            logging.warning(
                "NO ENTITY is right. Check that the checkpoint was loaded, and try another "
                "--learning_rate or more steps"
            )
        return entity_scores.type_table(scores)

    def with_labels(self, task, labels):
        """See `Kind.with_labels`; the labels name the types."""
        odd = [label for label in labels if not label_decoding.spelled(label)]
        if odd:
            raise UserError(
                "label {!r} of the model is not for entities: expected O, B-TYPE, I-TYPE and so "
                "on".format(odd[0])
            )
        types = dict.fromkeys(label[2:] for label in labels if label != label_decoding.OUTSIDE)
        return task._replace(types=tuple(types), labels=tuple(labels))

    def example(self, task, values):
        """See `Kind.example`: a text."""
        if not isinstance(values, str):
            raise ValueError("{!r} is not a text".format(values))
        return entity_files.LabelledText("", values, None)

    def answers(self, examples, task, predictions):
        """See `Kind.answers`: `entities`, each with `begin`, `end`, `type` and `text`."""
        return [
            {"entities": entity_rows(example.text, entities)}
            for example, entities in zip(examples, predictions)
        ]

    def write(self, folder, data, predictions, settings):
        """See `Kind.write`: JSON lines of texts with entities, and CLUE's file."""
        del settings
        texts, rows = data.examples["test"], {PREDICTIONS: _prediction_row}
        if data.task.submission:
            rows[data.task.submission] = _clue_row
        for name, row in rows.items():
            path = os.path.join(folder, name)
            files.write_json_lines(path, map(row, texts, predictions))
            logging.info("%d predictions in %s", len(texts), path)
        return list(rows)


# -------------------------------------------------------------------------------- types and labels


def _with_types(task, types, args):
    """Return a task with types, if they are known, and with the labels of the scheme."""
    if not types:
        return task
    labels = label_decoding.label_names(types, args.label_scheme)
    return task._replace(types=tuple(types), labels=tuple(labels))


def _report(types, texts):
    """Log the entities of every split; return their numbers for the report of the run."""
    counts = {}
    for split, rows in texts.items():
        kinds_here = [entity.type for row in rows for entity in row.entities or ()]
        counts[split] = {name: kinds_here.count(name) for name in types}
    logging.info("Entities of each type:\n%s", data_report.class_table(counts))
    findings = {"entities": counts}
    if {"train", "dev"} <= set(texts):
        seen = {row.text for row in texts["train"]}
        findings["train_dev_overlap"] = sum(row.text in seen for row in texts["dev"])
        if findings["train_dev_overlap"]:
            logging.warning(
                "OVERLAP: %d of %d dev texts are train texts: this can raise the dev score",
                findings["train_dev_overlap"],
                len(texts["dev"]),
            )
    return findings


# ------------------------------------------------------------------------------------------ pieces


class _Labelled(NamedTuple):
    """The pieces of a text and their labels."""

    pieces: Encoding  # n pieces
    label_ids: Optional[np.ndarray]  # int32 [n]; None where the entities are not known
    num_inexact: int  # entities whose edges are not edges of pieces


def _labelled(example, task, tokenizer):
    """Return the `_Labelled` pieces of a `LabelledText`."""
    pieces = encode_text(example.text, tokenizer)
    if example.entities is None:
        return _Labelled(pieces, None, 0)
    spans, free, num_inexact = [], 0, 0
    for entity in example.entities:
        first, last = pieces_of(pieces.begins, pieces.ends, entity.begin, entity.end)
        first = max(first, free)
        is_exact = first < last and (
            (pieces.begins[first], pieces.ends[last - 1]) == (entity.begin, entity.end)
        )
        num_inexact += not is_exact
        if first < last:
            spans.append((first, last, task.types.index(entity.type)))
            free = last
    label_ids = label_decoding.labels_of(spans, len(pieces.ids), task.scheme)
    return _Labelled(pieces, label_ids, num_inexact)


def _windows(num_pieces, settings):
    """Return the windows of a text; each overlaps the next by a quarter."""
    room = settings.max_seq_length - 2
    return windows_of(num_pieces, room, max(1, room - room // 4))


def _rows(index, labelled, windows, cls_id, sep_id):
    """Return a dict of arrays for each window of a text: its ids and the columns."""
    pieces, label_ids, _ = labelled
    rows = []
    for (first, last), (own_first, own_last) in zip(windows, owned_by(windows)):
        length = last - first + 2
        own = slice(own_first - first + 1, own_last - first + 1)
        row = {column.name: np.zeros(length, np.int32) for column in (TARGETS, IS_OWN)}
        row["ids"] = np.concatenate([[cls_id], pieces.ids[first:last], [sep_id]])
        row[IS_OWN.name][own] = 1
        if label_ids is not None:
            row[TARGETS.name][own] = 1 + label_ids[own_first:own_last]
        for column, values in ((CHAR_BEGINS, pieces.begins), (CHAR_ENDS, pieces.ends)):
            row[column.name] = np.concatenate([[0], values[first:last], [0]])
        row[EXAMPLE.name] = np.array([index])
        rows.append(row)
    return rows


def _encoded(rows):
    """Return the `encoding.Encoded` of rows, with all columns."""
    names = ["ids"] + [column.name for column in Entities.columns]
    joined = {
        name: np.concatenate([row[name] for row in rows] or [[]]).astype(np.int32) for name in names
    }
    lengths = np.array([len(row["ids"]) for row in rows], np.int32)
    begins = np.cumsum(np.append(0, lengths))
    return encoding.Encoded(joined.pop("ids"), begins, lengths, joined, lengths)


# ---------------------------------------------------------------------------- losses and decisions


def _loss(scores, transitions, targets):
    """Return the summed loss of the pieces that are learned: float32 [].

    Args:
        scores: float32 [B, S, L].
        transitions: float32 [L, L] of a conditional random field, or None.
        targets: int32 [B, S], see TARGETS.
    """
    is_target = targets > 0
    label_ids = tf.maximum(targets - 1, 0)
    if transitions is not None:
        chains = piece_heads.Chains(label_ids, is_target)
        return -tf.reduce_sum(piece_heads.chain_log_likelihood(scores, transitions, chains))
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label_ids, logits=scores)
    return tf.reduce_sum(losses * tf.cast(is_target, tf.float32))


class _Scored(NamedTuple):
    """Pieces with the scores of their labels: arrays [n, ...]."""

    scores: np.ndarray  # float [n, L]
    begins: np.ndarray  # characters
    ends: np.ndarray


def _decide(scores, transitions, task):
    """Return the spans of pieces (begin, end, type) of some texts.

    Args:
        scores: list of float [pieces, L], one for each text.
        transitions: float [L, L], or 0.
        task: `EntityTask` with its labels.
    """
    labels = task.spelled
    legal = label_decoding.legal(labels, task.scheme)
    lengths = np.array([len(rows) for rows in scores])
    padded = np.zeros([len(scores), max(lengths.max(), 1), len(task.labels)])
    for row, values in zip(padded, scores):
        row[: len(values)] = values
    label_ids = label_decoding.viterbi(
        padded,
        lengths,
        transitions + label_decoding.penalties(legal.following),
        label_decoding.penalties(legal.first),
        label_decoding.penalties(legal.last),
    )
    return [
        label_decoding.spans_of([labels[i] for i in row[:length]], task.scheme)
        for row, length in zip(label_ids, lengths)
    ]


# ------------------------------------------------------------------------------------------- files


def entity_rows(text, entities):
    """Return entities as dicts that json can write, with their text."""
    return [
        {"begin": begin, "end": end, "type": entity_type, "text": text[begin:end]}
        for begin, end, entity_type in entities
    ]


def _prediction_row(example, entities):
    rows = entity_rows(example.text, entities)
    return {"id": example.guid, "text": example.text, "entities": rows}


def _clue_row(example, entities):
    """Return the object of a line of CLUE's file, in which the end is the last character."""
    by_type = {}
    for begin, end, entity_type in entities:
        places = by_type.setdefault(entity_type, {}).setdefault(example.text[begin:end], [])
        places.append([begin, end - 1])
    guid = int(example.guid) if example.guid.isdecimal() else example.guid
    return {"id": guid, "label": by_type}
