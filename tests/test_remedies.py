"""Every message that names a flag or a command to type is in docs/errors.md and has a test.

The test makes the mistake, compares the message, follows the remedy and checks that it works. The
test is in this file, or `TESTED` names it.
"""

import ast
import re
import shutil
import subprocess

import helpers
import numpy as np
import pytest
import record_files
from classifiers import write_model
from test_layout import modules

import convert_checkpoint
import create_pretraining_data
import modeling
import predict
import run_classifier
import run_pretraining
from checkpointing import arrays as weights
from checkpointing import run_folder
from common import cli, files
from common.errors import UserError
from finetuning_data import task_files
from tfrecords import manifest
from tfrecords.wire import pretraining_schema

# What a user can type: a flag, a command, or a command of this code.
TYPED = re.compile(
    r"--[\w{]|\b(iconv|gunzip|bunzip2|unxz|unzstd|unzip|tar xf|tr|git lfs|jq|sed|awk|pip install)\b"
    r"|\b(unrar|7z|tail|cut -f|nvidia-smi|python3?)\b|\w+_\w+\.py\b"
)


def messages(root):
    """Return the texts of the product that name something to type, {text: place}."""
    found = {}
    for name, path in modules(root).items():
        if name == "test_changes":
            continue
        todo = [ast.parse(path.read_text(encoding="utf-8"))]
        while todo:
            node = todo.pop()
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue  # a docstring
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "info":
                continue
            if isinstance(node, ast.FunctionDef) and re.match("_?define_", node.name):
                continue  # help texts of flags
            text = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and TYPED.search(text) and " " in text.strip():
                found[text] = "{}:{}".format(path.name, node.lineno)
            todo += ast.iter_child_nodes(node)
    return found


# Part of a message -> beginning of the name of a test in another file that follows the remedy. If
# the remedy is to leave a flag out, the other tests of the command do so.
TESTED = {
    "{0!r} is {1}, not UTF-8": "test_a_name_in_another_encoding",
    "names it and says how to mask them": "test_a_lost_manifest",
    "is not as create_pretraining_data.py wrote it": "test_an_edited_manifest",
    "masked_lm_prob asks for %d pieces of a row": "test_lengths_that_do_not_fit",
    "they are padded to": "test_lengths_that_do_not_fit",
    "set --max_seq_length to {}": "test_lengths_that_do_not_fit",
    "has no times, only evaluations": "test_a_run_without_times",
    "--dupe_factor={} with": "test_flags_that_compact_records",
    "compact records have room for": "test_a_vocabulary_that_is_too_large",
    "--{}: the records are masked already": "test_both_formats",
    "was made with {}={}, and {} with {}": "test_two_defaults",
    "--runner={}": "test_a_run_that_cannot_read",
    "repeat its flags to go on": "test_other_flags_are_refused",
    "leaves it out": "test_bad_json_is_named",
    "leaves such rows out": "test_bad_rows_are_skipped",
    "sed G FILE > NEW_FILE": "test_an_article_a_line",
    "holds HTML": "test_the_flag_that_is",
    "give --input_format=text": "test_the_flag_that_is",
    "holds JSON lines": "test_the_flag_that_is",
    "holds pages of WikiExtractor": "test_the_flag_that_is",
    "json.load(open(sys.argv[1]": "test_the_command_that_is",
    "jq -c .": "test_the_command_that_is",
    "csv.DictReader": "test_the_command_that_is",
    "holds a table with %s": "test_the_command_that_is",
    "with bunzip2": "test_the_command_that_is",
    "with unxz": "test_the_command_that_is",
    "with unzstd": "test_the_command_that_is",
    "with unzip": "test_the_command_that_is",
    "without a byte order mark": "test_the_command_that_is",
    "is UTF-16: convert it": "test_the_command_that_converts_a_file",
    "has line ends of old Macs": "test_the_command_that_is",
    "as a separator: put a": "test_the_command_that_replaces_a_separator",
    "with tar xf": "test_the_command_that_is",
    "unpack it with gunzip": "test_the_command_that_converts_a_file",
    "(iconv -f {} -t UTF-8)": "test_gb18030_and_big5_are_converted",
    "as if files of both were joined": "test_files_of_two_encodings_are_joined_converted",
    "csv.reader(open(sys.argv[1]": "test_the_command_that_makes_a_table",
    "file with tabs: awk": "test_the_command_that_puts",
    "keeps the first column and the last": "test_the_command_that_keeps_two",
    "types with --labels": "test_a_type_that_the_train_file",
    "writes a character a line: awk": "test_the_command_that_writes_a_character",
    "jq -r .FIELD": "test_vectors_of_json",
    "sed -E": "test_the_command_that_removes_the_quotes",
    "the texts without it: tail": "test_columns_that_are_no_texts",
    "cut -f 1": "test_columns_that_are_no_texts",
    "cell %d has labels or numbers": "test_labels_of_a_table",
    "begins with a number, which would be": "test_numbers_of_lines_are_told",
    "MOJIBAKE: a program read": "test_text_that_a_program_misread",
    "MARKS: %d lines": "test_marks_between_documents",
    "holds a character and its label a line": "test_the_command_that_makes_text",
    "needs two or more different lines": "test_a_search_needs_two_lines",
    "is a run of fine-tuning": "test_a_run_of_fine_tuning",
    "give --header=no": "test_the_flag_that_an",
    "give --test_header=yes instead": "test_the_test_file_alone",
    "so it is an example: leave --header": "test_an_example_is_not",
    "; if this row is a header": "test_an_unknown_label_of",
    "NOT READ: column": "test_a_second_text_that_the_task",
    "is a second text, and the task reads one": "test_a_second_text_that_the_task",
    "no other row has the label": "test_a_header_of_unknown_words_is_no_class",
    "give --max_unknown_share=1": "test_unknown_pieces_of_a_file",
    "--do_lower_case={}, but": "test_the_case_is_compared",
    "holds a run of task {}, not {}": "test_a_run_of_another_task",
    "a run needs another --output_dir and": "test_other_labels_need_another_folder",
    "choices: give --max_choices": "test_more_choices_than",
    "the model was trained with --{}={}": "test_a_crf_is_used",
    "have no answer in their context: give": "test_unanswerable_questions_need",
    "has no answer: give answers": "test_questions_without_an_answer",
    "has no room for a choice and what": "test_a_choice_needs",
    "is for an --input_file of a classifier": "test_a_flag_that_the_answers",
    "--top={} is for": "test_a_flag_that_the_answers",
    "so this run ignores it: leave": "test_a_flag_that_the_run",
    "EDGES OF WINDOWS": "test_an_answer_at_an_edge",
    "and files with other fields in a run": "test_text_in_a_field_that_is_not_named",
    "OTHER LENGTH": "test_another_length_than",
    "OLD BEST": "test_training_without_evaluations_after",
    "these answers are JSON lines": "test_vectors_are_no_table",
    "OLD RESULTS": "test_training_without_evaluations_after",
    "if it is a class, name all classes": "test_labels_of_the_user_are",
    "has no room for a context after": "test_a_question_needs_room",
    "is less than the default of --num_warmup_steps": "test_the_default_of_the",
    "leave the damage out with --skip_damaged": "test_check_only_finds_a",
    "cannot be divided among": "test_devices_that_do_not",
    "is left of an earlier run": "test_what_is_left_of_an_earlier",
    "holds no whole checkpoint": "test_a_run_is_never_started_over",
    "which no run saved": "test_an_archive_is_not",
    "--resume_foreign=True": "test_an_archive_is_not",
    "is ignored, because --output_dir": "test_three_modes_are_told",
    "holds weights of Keras or Flax": "test_weights_of_keras",
    "is not a TensorFlow checkpoint": "test_conversions_there_and_back",
    "is a checkpoint of TensorFlow already": "test_there_and_back_is",
    "the names are those of": "test_conversions_there_and_back",
    "; to train, --allow_missing": "test_the_cause_of_a",
    "belongs to it, or, to train, --allow_missing": "test_the_cause_of_a",
    "it classifies other labels": "test_a_classifier_of_other",
    "--allow_vocab_resize=True to start": "test_warm_start_with_more",
    "or --allow_more_positions": "test_more_positions_repeat",
    "with another number of layers": "test_shared_layers_start_with_more",
    "is too large for float16": "test_slim_in_half_precision",
    "give --bert_config_file={}": "test_another_activation_than_the",
    "adds it if started again": "test_a_run_is_the_model",
    "--model_dir has its own": "test_a_run_is_the_model",
    "--model_dir is needed; or": "test_a_model_without_classifier",
    "is a file: give --input_file": "test_the_name_of_a_file",
    "JSON: give texts, or the file": "test_a_stream_answers_every",
    "a header: begin with": "test_a_header_in_a_stream",
    "CLASSIFIER LEFT OUT": "test_a_classifier_taken_for",
    "give a SentencePiece model with": "test_each_kind_of_file_in",
    "is a dump of MediaWiki": "test_a_dump_of_mediawiki",
    "and the run would replace it": "test_the_user_s_own_config",
    "if each line is a whole article": "test_articles_of_one_line",
    "put {2} where a piece is missing": "test_what_a_pretrained_model",
    "and the task of --model_dir is": "test_a_checkpoint_of_another_kind",
    "was saved without the pooler: give": "test_answers_and_vectors_are_those_of_the_whole",
    "is a model without classifier": "test_a_model_without_classifier",
    "--model_dir={} is a checkpoint": "test_a_checkpoint_in_place",
    "--model_dir={} {}: give": "test_a_run_is_the_model",
    "{} has it: leave": "test_what_a_run_has",
    "give another --version of": "test_an_existing_version_is",
    ", or give --raw_text=False": "test_raw_text_needs_wordpiece",
    "this model has SentencePiece": "test_raw_text_needs_wordpiece",
    "--quantization is for": "test_quantization_is_for_tflite",
    "give a name that ends in .{}": "test_the_name_gives_the_format",
    "name the --output_dir of a run": "test_writes_a_picture_of",
    "is a part of this value": "test_two_flags_in_one",
    "a flag has two hyphens": "test_a_flag_with_other_dashes",
    "type ASCII commas: {}": "test_wide_commas_in",
    "a record differs in format from the first one": "test_records_of_two_kinds",
    "--help lists": "test_help_lists_the_flags",
    "unknown flag --{}": "test_what_the_parser_says",
    "do you mean --{}?": "test_what_the_parser_says",
    "that is a command here": "test_what_the_parser_says",
    "XLA compiles the step for a CPU": "test_recomputation_under_xla",
    "trains faster: XLA compiles whole steps": "test_a_run_on_a_gpu",
    "needs the environment variable TF_CONFIG": "test_a_missing_description_is",
}
# Reason why no test follows a remedy -> parts of the messages with such remedies.
UNTESTED = {
    "installs a package": [
        "needs Apache Beam",
        "rjieba is not installed",
        "is a Parquet file",
        "is not installed: pip install {0}",
        "safetensors is not installed",
        "only torch reads it",
        "NOT VERIFIED",
        "is missing ({}): pip install",
        "matplotlib is missing",
    ],
    "needs Apache Beam": ["--runner_options={}"],
    "git-lfs is not installed everywhere": ["git lfs pull"],
    "unrar and 7z are not installed everywhere": ["with unrar x", "with 7z x"],
    "another folder is a run of its own": ["OTHER %s DATA"],
    "test_run_pretraining.py has the run that goes on": ["OTHER MICRO-BATCHES"],
    "a matter of training": [
        "CHANCE LEVEL",
        "NO ENTITY is right",
        "--optimizer=lamb, --pooler_lr_factor",
        "training diverged",
        "with the weights that it began with",
    ],
    "test_run_classifier.py has the run of several seeds": ["or the same settings as before"],
    "needs several machines": [
        "--patience and --strategy=multi_worker",
        "all machines must use the same folder",
    ],
    "a warning about memory": ["and not --shuffle_buffer"],
    "depends on the memory of the machine": [
        "By this estimate not even one",
        "By estimate this step does not fit",
        "out of memory ({})",
        "perhaps for lack of memory",
    ],
    "depends on the disk of the machine": ["or lower --keep_checkpoint_max"],
    "needs torch to train that model": ["train the folder of --architecture=bert"],
    "needs a TPU": [
        "--tpu_generation changes it",
        "and --use_tpu=True contradict",
        "does not exist on a TPU",
        "--use_tpu=True needs",
        "is a local path, which a TPU",
        "cannot be looked up",
        "no TPU core answers at",
        "has no kernels for TPUs",
        "scores and predicts on one host",
        "of TensorFlow 1 compiles the step",
        "needs TensorFlow 2",
    ],
    "needs a GPU": ["--require_accelerator=True, but"],
}


# ------------------------------------------------------------------------------ the commands

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list("天地玄黄宇宙洪荒日月。abc")
LENGTH, PREDICTIONS = 16, 4
TEXT = "天地玄黄。\n宇宙洪荒。\n日月天地。\n\n玄黄宇宙。\n洪荒日月。\n天地宇宙。\n"
OBJECT = '{"headline": "天地玄黄。", "text": "宇宙洪荒。"}\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with files for all commands; relative paths of the flags begin there."""
    folder = tmp_path_factory.mktemp("remedies")
    helpers.write_config(folder, len(PIECES), LENGTH, num_hidden_layers=1)
    for name, fields in (("other", {"hidden_size": 8}), ("google", {"num_hidden_groups": 1})):
        (folder / name).mkdir()
        layout = "google" if name == "google" else "albert_zh"
        helpers.write_config(folder / name, len(PIECES), LENGTH, layout=layout, **fields)
    files = {
        "vocab.txt": "\n".join(PIECES) + "\n",
        "few.txt": "\n".join(PIECES[:7]) + "\n",
        "more.txt": "\n".join(PIECES + ["d"]) + "\n",
        "text.txt": TEXT,
        "made.txt": TEXT,
        "article.txt": TEXT.replace("\n\n", "\n"),
        "gbk.txt": TEXT,
        "lines.jsonl": OBJECT * 3,
        "dict.txt": "玄黄\n",
        "questions.tsv": "天\t地\n",
    }
    for name, text in files.items():
        encoding = "gb18030" if name == "gbk.txt" else "utf-8"
        (folder / name).write_text(text, encoding=encoding)
    for name, text in (("data", "天地\t玄黄\t{}\n"), ("upper", "天地\tABCCBA\t{}\n")):
        (folder / name).mkdir()
        for split in ("train", "dev", "test"):
            rows = "".join(text.format(i % 2) + "日{}\t月\t1\n".format("天" * i) for i in range(4))
            (folder / name / (split + ".tsv")).write_text(rows, encoding="utf-8")
    shutil.copytree(folder / "data", folder / "unpacked" / "lcqmc")
    for name, num_pieces in (("small", 9), ("more", len(PIECES) + 1)):
        (folder / name).mkdir()
        helpers.write_config(folder / name, num_pieces, LENGTH, num_hidden_layers=1)
    write_checkpoints(folder)
    write_records(folder / "other.tfrecord", 9)
    write_records(folder / "train.tfrecord")
    write_records(folder / "dev.tfrecord")
    manifest.write_manifest(str(folder / "dev.tfrecord"), {"vocab_sha256": "1"})
    return folder


def write_checkpoints(folder):
    """Write `pretrained`, `classifier`, and `run` of step 4 in folders of these names."""
    config = modeling.AlbertConfig.from_json_file(str(folder / "config.json"))
    rng = np.random.RandomState(0)
    for name, labels in (("pretrained", None), ("classifier", 2), ("run", None), ("slim", None)):
        shapes = modeling.parameter_shapes(config, labels)
        arrays = {key: rng.normal(0, 0.1, shape).astype("f") for key, shape in shapes.items()}
        if name == "run":
            slots = (key + "/" + slot for key in shapes for slot in ("lamb_m", "lamb_v"))
            arrays.update((slot, np.zeros(shapes[slot.rpartition("/")[0]], "f")) for slot in slots)
            arrays["global_step"] = np.int64(4)
        (folder / name).mkdir()
        weights.write(str(folder / name / "model.ckpt-4"), arrays)
        run_folder.write_state(str(folder / name), [str(folder / name / "model.ckpt-4")])
        if name in ("run", "slim"):
            (folder / name / "results.json").write_text('{"vocab_sha256": "0"}')


def write_records(path, piece=1):
    schema = pretraining_schema(LENGTH, PREDICTIONS)
    values = {feature.name: np.ones(feature.length, int) for feature in schema}
    values["masked_lm_ids"] *= piece
    with record_files.RecordWriter(str(path)) as writer:
        for _ in range(4):
            writer.write(record_files.serialize(schema, values))


TRAIN, TUNE, MAKE = run_pretraining, run_classifier, create_pretraining_data
CONVERT = convert_checkpoint
# The flags of a case are added to these flags. If a flag has two values, the last one counts, and
# `without:name` removes the flag of that name.
USUAL = {
    TRAIN: "--input_file=train.tfrecord --bert_config_file=config.json --output_dir=new "
    "--max_seq_length=16 --max_predictions_per_seq=4 --train_batch_size=4 --learning_rate=0.002 "
    "--num_train_steps=5 --num_warmup_steps=1 --do_train --check_only",
    TUNE: "--task_name=lcqmc --data_dir=data --bert_config_file=config.json --vocab_file=vocab.txt "
    "--output_dir=new --max_seq_length=16 --do_train --check_only",
    MAKE: "--input_file=text.txt --output_file=records/new --vocab_file=vocab.txt "
    "--max_seq_length=16 --max_predictions_per_seq=2 --num_workers=1 --overwrite",
    CONVERT: "",
    predict: "",
}
WITHOUT = "without:"
EVALUATE = "--nodo_train --do_eval"
JSONL = "--input_file=lines.jsonl --input_format=jsonl"
OTHER = "--output_dir=run --bert_config_file=other/config.json"
# Part of the message, command, the flags of the mistake, and what the message says to type: flags
# that are added, or a whole command line of predict.py or convert_checkpoint.py.
CASES = (
    ("--max_chunks_per_row needs", MAKE, "--max_chunks_per_row=2", "--record_format=compact"),
    (
        "--published_labels needs",
        MAKE,
        "--published_labels --record_format=compact",
        "--record_format=published",
    ),
    (
        "is not a TFRecord file of examples",
        TRAIN,
        "--input_file=text.txt",
        "--input_file=train.tfrecord",
    ),
    (
        "the records were made with another vocabulary",
        TRAIN,
        "--input_file=other.tfrecord --bert_config_file=small/config.json",
        "--bert_config_file=config.json",
    ),
    ("give more text, or smaller", TRAIN, "--num_train_steps=4000", "--num_train_steps=5"),
    ("rows to train on, so that", TUNE, "--train_batch_size=9", "--train_batch_size=8"),
    ("is more than max_position_embeddings", TRAIN, "--max_seq_length=17", "--max_seq_length=16"),
    ("nothing to do: give --do_train=True or", TRAIN, "--nodo_train", "--do_train=True"),
    ("--input_file is needed", TRAIN, "without:input_file", "--input_file=train.tfrecord"),
    (
        "--general_eval_input_file={} needs",
        TRAIN,
        "--general_eval_input_file=dev.tfrecord",
        "--do_eval --eval_input_file=dev.tfrecord",
    ),
    ("--eval_every_steps={} needs", TRAIN, "--eval_every_steps=1", "--do_eval=True"),
    ("EVALUATION ON THE TRAINING", TRAIN, "--do_eval", "--eval_input_file=dev.tfrecord"),
    ("is far from %.2g", TRAIN, "--learning_rate=9", "--learning_rate=0.0026"),
    ("does not divide the {} examples", TRAIN, "--micro_batch_size=3", "--micro_batch_size=2"),
    ("cannot be written to", TRAIN, "--output_dir=text.txt/out", "--output_dir=new"),
    ("NOTHING TO TRAIN", TRAIN, "--output_dir=run --num_train_steps=4", "--num_train_steps=5"),
    (
        "has no global_step",
        TRAIN,
        "--output_dir=slim",
        "--init_checkpoint=slim/model.ckpt-4 --output_dir=new",
    ),
    ("holds no checkpoint: train with", TRAIN, EVALUATE, "--do_train=True"),
    ("holds no checkpoint: train with", TRAIN, EVALUATE, "--init_checkpoint=pretrained"),
    ("holds a checkpoint of another model", TRAIN, OTHER, "--bert_config_file=config.json"),
    ("holds a checkpoint of another model", TRAIN, OTHER, "--output_dir=new"),
    (
        "than the records that {} was trained on",
        TRAIN,
        "--input_file=dev.tfrecord --output_dir=run",
        "--output_dir=new",
    ),
    (
        "holds a checkpoint of another optimizer",
        TRAIN,
        "--output_dir=run --optimizer=adamw",
        "--optimizer=lamb",
    ),
    (
        "holds a checkpoint of another optimizer",
        TRAIN,
        "--output_dir=run --optimizer=adamw --learning_rate=0.0001",
        "--output_dir=new --init_checkpoint=run/model.ckpt-4",
    ),
    (
        "the config describes a model of layout",
        TRAIN,
        "--init_checkpoint=pretrained --bert_config_file=google/config.json",
        "--bert_config_file=config.json",
    ),
    ("nothing to do: give --do_train=True, --do_eval", TUNE, "--nodo_train", "--do_train=True"),
    ("--num_train_epochs=0 trains", TUNE, "--num_train_epochs=0", "--num_train_epochs=1"),
    (
        "--num_train_epochs=0 trains",
        TUNE,
        "--num_train_epochs=0 --init_checkpoint=classifier",
        EVALUATE,
    ),
    ("--best_metric={} is not a score of", TUNE, "--best_metric=f1", "--best_metric=macro_f1"),
    ("--patience={} needs", TUNE, "--patience=2", "--do_train=True --do_eval=True"),
    (
        "(no variable {})",
        TUNE,
        EVALUATE + " --init_checkpoint=pretrained",
        "--do_train=True",
    ),
    ("--vocab_file is needed", TUNE, "without:vocab_file", "--vocab_file=vocab.txt"),
    ("--{} is empty: is a shell variable", TRAIN, "--init_checkpoint=", "--init_checkpoint=run"),
    (
        "to train new pieces after its own",
        TUNE,
        "--vocab_file=more.txt --init_checkpoint=pretrained",
        "--bert_config_file=more/config.json --allow_vocab_resize=True",
    ),
    ("NOT PRE-TRAINED", TUNE, "", "--init_checkpoint=pretrained"),
    ("it is in a folder below: give", TUNE, "--data_dir=unpacked", "--data_dir=unpacked/lcqmc"),
    ("--seeds={}: give whole numbers", TUNE, "--seeds=1,1", "--seeds=1,2,3"),
    (
        "the labels of task {} are not known",
        TUNE,
        EVALUATE + " --task_name=sentence_pair --init_checkpoint=classifier/model.ckpt-4",
        "--labels=0,1",
    ),
    (
        "a lower-case vocabulary needs",
        TUNE,
        "--data_dir=upper --do_lower_case=False",
        "--do_lower_case=True",
    ),
    ("a lower-case vocabulary needs", MAKE, "--do_lower_case=False", "--do_lower_case=True"),
    (
        "is there already, made with",
        MAKE,
        "--nooverwrite --output_file=made.txt",
        "--output_file=records/other",
    ),
    ("is there already, made with", MAKE, "--nooverwrite --output_file=made.txt", "--overwrite"),
    (
        "no document of {} has text in",
        MAKE,
        JSONL + " --text_fields=headline,txet",
        "--text_fields=headline,text",
    ),
    ("has none of the fields", MAKE, JSONL, "--text_fields=headline,text"),
    ("leave such lines out with", MAKE, "--input_file=text.txt,gbk.txt", "--skip_bad_lines"),
    (
        "{} names in --output_file",
        MAKE,
        "--output_file=records/a,records/b --num_output_shards=2",
        "--output_file=records/a",
    ),
    ("is an input too, or named twice", MAKE, "--output_file=text.txt", "--output_file=x"),
    ("is a folder: name a file in it", MAKE, "--output_file=data", "--output_file=data/x"),
    ("is not local: name a local folder", MAKE, "--work_dir=gs://a/b", "--work_dir=work"),
    (
        "asks for %d pieces of a sequence",
        MAKE,
        "--masked_lm_prob=0.2",
        "--max_predictions_per_seq=3",
    ),
    ("check the encoding of the text", MAKE, "--vocab_file=few.txt", "--vocab_file=vocab.txt"),
    (
        "takes no user dictionary",
        MAKE,
        "--segmenter=rjieba --user_dict=dict.txt",
        "--segmenter=jieba",
    ),
    (
        ": to make the folder {0}, give --output_dir={0}",
        CONVERT,
        "slim classifier slimmer",
        "slim classifier --output_dir=slimmer",
    ),
    ("--output_dir is needed", CONVERT, "slim classifier", "slim classifier --output_dir=slimmed"),
    (
        "has no {} beside it: give",
        CONVERT,
        "to-huggingface pretrained --output_dir=theirs",
        "to-huggingface pretrained --output_dir=theirs --bert_config_file=config.json "
        "--vocab_file=vocab.txt",
    ),
    (
        "--embeddings=True and --search_file",
        predict,
        "天 --model_dir=run --embeddings --search_file=text.txt",
        "天 --model_dir=run --search_file=text.txt",
    ),
    ("texts and --input_file", predict, "天 --model_dir=run --input_file=-", "天 --model_dir=run"),
    (
        "--pooling={} is for",
        predict,
        "天 --model_dir=run --pooling=cls",
        "天 --model_dir=run --pooling=cls --embeddings=True",
    ),
    (
        "an array has vectors",
        predict,
        "--model_dir=run --input_file=questions.tsv --output_file=a.npy",
        "--model_dir=run --input_file=questions.tsv --output_file=a.npy --embeddings=True",
    ),
    (
        "belong together",
        predict,
        "--model_dir=run --input_file=questions.tsv",
        "--model_dir=run --input_file=questions.tsv --output_file=answers.tsv",
    ),
    (
        "--output_file would replace",
        predict,
        "--model_dir=run --input_file=questions.tsv --output_file=questions.tsv",
        "--model_dir=run --input_file=questions.tsv --output_file=answers.tsv",
    ),
)


def told(script, line, capsys, caplog):
    """Run a command, or its checks; return what it tells and whether it succeeds."""
    caplog.clear()
    usage = getattr(script, "WORDS", None)
    words = line.split()
    removed = tuple("--" + word[len(WITHOUT) :] + "=" for word in words if word.startswith(WITHOUT))
    words = [word for word in USUAL[script].split() if not word.startswith(removed or " ")] + [
        word for word in words if not word.startswith(WITHOUT)
    ]
    # Of predict.py only the checks run here; other tests load a model and predict.
    main = predict.check_flags if script is predict else script.main
    try:
        args = cli.parse(script.define_flags, [""] + words, usage)
        main(*([args, [word for word in words if word[:2] != "--"]] if usage else [args]))
        status, message = 0, ""
    except UserError as error:
        status, message = 2, str(error)
    except SystemExit as end:
        status, message = end.code, ""
    return message + capsys.readouterr().out + caplog.text, status


def pattern(part):
    """Return a pattern of a part of a text in which values replace {} and %d."""
    return re.sub(r"\\\{.*?\\\}|%\\?\.?\d*[a-z]", ".*?", re.escape(part))


@pytest.mark.parametrize("part, script, mistake, remedy", CASES, ids=[case[0] for case in CASES])
def test_the_remedy_works(part, script, mistake, remedy, made, monkeypatch, capsys, caplog):
    monkeypatch.chdir(made)
    text, _ = told(script, mistake, capsys, caplog)
    assert re.search(pattern(part), text)
    line = remedy if script in (CONVERT, predict) else mistake + " " + remedy
    text, status = told(script, line, capsys, caplog)
    assert status == 0 and not re.search(pattern(part), text), text


def test_an_article_a_line(made, monkeypatch, capsys, caplog):
    monkeypatch.chdir(made)
    text, _ = told(MAKE, "--input_file=article.txt", capsys, caplog)
    command, flag = re.search("(sed G FILE > NEW_FILE), and give (.*)", text).groups()
    command = command.replace("NEW_FILE", "new.txt").replace("FILE", "article.txt")
    subprocess.run(command, shell=True, check=True)
    text, status = told(MAKE, "--input_file=new.txt " + flag, capsys, caplog)
    assert status == 0 and "sed G" not in text


def test_a_run_is_the_model_to_load(tmp_path, capsys):
    out = write_model(tmp_path)
    run_folder.copy(str(out / "model.ckpt-1"), str(tmp_path / "bare"))
    for line, message in (
        ("--vocab_file=vocab.txt --model_dir={}", "leave --vocab_file out"),
        (
            "--model_dir={}/best",
            "best does not exist: give the --output_dir of a run of run_classifier.py",
        ),
        ("--model_dir={}/../bare", "classifier.json does not exist: give the --output_dir"),
    ):
        with pytest.raises(UserError, match=message):
            predict.main(*predict_words(line.format(out)))
    predict.main(*predict_words("--model_dir={}".format(out)))
    assert capsys.readouterr().out.startswith("prediction")


def predict_words(line):
    words = ["天", "地"]
    return cli.parse(predict.define_flags, [""] + line.split() + words, predict.WORDS), words


@pytest.mark.parametrize("encoding", ["gb18030", "big5"])
def test_gb18030_and_big5_are_converted(tmp_path, encoding):
    path = tmp_path / "train.tsv"
    path.write_bytes("怎麼還這個問題的款\t地\t1\n".encode(encoding))
    row_format = task_files.RowFormat(("text_a", "text_b", "label"), frozenset("01"), True)
    with pytest.raises(UserError, match="row 1: not UTF-8") as error:
        task_files.open_rows(str(path), row_format)
    command = re.search(r"\((iconv .*)\)", str(error.value)).group(1)
    path.write_bytes(subprocess.check_output(command.split(), input=path.read_bytes()))
    rows = task_files.open_rows(str(path), row_format)
    row = rows.parse(rows.lines[0][1])
    assert (row["text_a"], row["text_b"]) == ("怎麼還這個問題的款", "地")


def test_files_of_two_encodings_are_joined_converted(tmp_path):
    one, two = tmp_path / "one.txt", "后来他到上海工作。\n天气很好。\n".encode("gb18030")
    one.write_bytes("他在北京上学。\n".encode() + two)
    with pytest.raises(UserError, match="row 2: not UTF-8 text; some rows are UTF-8") as error:
        files.read_utf8(str(one))
    command = re.search(r"\((iconv .*)\)", str(error.value)).group(1)
    joined = "他在北京上学。\n".encode() + subprocess.check_output(command.split(), input=two)
    assert joined.decode("utf-8").endswith("后来他到上海工作。\n天气很好。\n")


# --------------------------------------------------------------------------------- the table


@pytest.fixture(scope="module")
def table(root):
    """Parts of messages in the first column of docs/errors.md."""
    text = (root / "docs" / "errors.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(.+?)` \|", text, re.MULTILINE)


def test_every_message_that_names_a_remedy_is_in_the_table(root, table):
    texts = messages(root)
    absent = {place: text for text, place in texts.items() if not any(x in text for x in table)}
    assert not absent
    assert not [part for part in table if not any(part in text for text in texts)]


def test_every_row_of_the_table_has_a_test_or_a_reason(root, table):
    texts = "".join(path.read_text(encoding="utf-8") for path in root.glob("tests/**/*.py"))
    names = re.findall(r"^def (test_\w+)", texts, re.MULTILINE)
    for beginning in set(TESTED.values()):
        assert len([name for name in names if name.startswith(beginning)]) == 1, beginning
    parts = {part for part, *_ in CASES} | set(TESTED) | set().union(*UNTESTED.values())
    assert parts == set(table)
