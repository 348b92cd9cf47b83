"""The start of every entry script: flags, a quiet log, and one line for a user's mistake."""

import contextlib
import difflib
import errno
import functools
import itertools
import logging
import math
import os
import re
import select
import sys
import types

from absl import app, flags
from absl import logging as absl_logging

from common import file_types
from common.errors import UserError

USER_ERROR_STATUS, INTERRUPTED_STATUS = 2, 130
FULL_DISK = os.strerror(errno.ENOSPC)
# TensorFlow's warnings about deprecations and about how TPUEstimator calls Estimator.
NOISE = re.compile("deprecat|includes params argument|eval_on_tpu ignored")
# A flag, and a word that is meant as one: word processors and web pages turn hyphens into dashes
# and quotes into curly ones, and Chinese keyboards write wide signs.
FLAG, MEANT_FLAG = re.compile(r"--?\w+(=|$)"), re.compile("[“”‘’]?[-‐-―−－]+(\\w+)([=＝]|$)")
WRITTEN_FLAG = re.compile(r"--(\w+)(?==|$)")
WIDE_COMMA = re.compile("[，、]")
JOINED_FLAG = re.compile(r"\s--?(\w+)(?=[=\s]|$)")
# Flag of other programs (BERT, ALBERT and transformers) -> flags here that do the same.
OTHER_NAMES = {
    "do_test": "do_predict",
    "epochs": "num_train_epochs",
    "eval_file": "data_dir",
    "fp16": "precision",
    "gpu": "strategy",
    "gpu_ids": "strategy",
    "gpus": "strategy",
    "gradient_accumulation_steps": "micro_batch_size",
    "lr": "learning_rate",
    "max_eval_steps": "eval_steps",
    "max_steps": "num_train_steps num_train_epochs",
    "model_name_or_path": "init_checkpoint",
    "n_best_size": "n_best",
    "n_gpu": "strategy",
    "n_gpus": "strategy",
    "null_score_diff_threshold": "no_answer_threshold",
    "num_epochs": "num_train_epochs",
    "num_gpu_cores": "strategy",
    "num_gpus": "strategy",
    "output_dir": "model_dir",
    "overwrite_output_dir": "output_dir",
    "predict_file": "data_dir",
    "pytorch_dump_path": "output_dir",
    "save_checkpoints_secs": "save_checkpoints_steps",
    "seed": "random_seed",
    "spm_model_file": "vocab_file",
    "tpu": "tpu_name",
    "train_file": "data_dir",
    "train_step": "num_train_steps num_train_epochs",
    "use_fp16": "precision",
    "use_gpu": "require_accelerator strategy",
    "version_2_with_negative": "allow_no_answer",
    "warmup_step": "num_warmup_steps warmup_proportion",
    "warmup_steps": "num_warmup_steps warmup_proportion",
}
# Flag of other programs -> what does the same here.
OTHER_SCRIPTS = {
    "do_export": ": that is a command here, export_model.py",
    "random_next_sentence": ": leave it out, a second segment is never of another document here",
}
# Pattern of what Python or absl says about a value -> what to type.
WRONG_VALUES = {
    r"\('Non-boolean argument.*\)": "give True or False",
    "invalid literal for int.*": "give a whole number, in digits",
    "could not convert string to float.*": "give a number",
}
HOLDS_FLAGS = "runner_options="  # the value of this flag is a list of other flags


def parse(define_flags, argv, words=None):
    """Parse a command line into a new set of flags; the global FLAGS stay as they are.

    Args:
        define_flags: function that defines a script's flags on the `FlagValues` it gets.
        argv: list of str, the program's name first.
        words: str or None, as in `run`.

    Returns:
        The parsed `absl.flags.FlagValues`.

    Raises:
        UserError: for an unknown flag, a value that does not parse or a stray argument.
    """
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    _parse_into(flag_values, argv, words)
    return flag_values


def run(main, define_flags, words=None):
    """Parse the command line, call `main(args)` and turn a `UserError` into exit status 2.

    Args:
        main: function of the parsed `FlagValues` and, with `words`, the list of other arguments.
        define_flags: function that defines the script's flags on the `FlagValues` it gets.
        words: str, usage of the arguments that are not flags, such as `FILE...`; None: forbidden.
    """
    define_flags(flags.FLAGS)
    set_up_log()

    def parse_or_end(argv):
        if {"--help", "-help", "-h"} & set(argv):
            print(_help(define_flags, words))
            sys.exit(0)
        return _exit_on_mistake(_parse_into, flags.FLAGS, argv, words)

    def main_or_end(argv):
        _exit_on_mistake(main, flags.FLAGS, *([argv[1:]] if words else []))

    if hasattr(sys.stdout, "reconfigure"):  # characters that the terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    with _standard_output():
        app.run(main_or_end, flags_parser=parse_or_end)


@contextlib.contextmanager
def _standard_output():
    """A context that ends in one line if the output cannot be written.

    The program ends quietly if the reader of the output has ended, as `head` does.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout:  # None if the process that starts the program has closed it
                sys.stdout.flush()
    except OSError as error:
        is_full = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
        is_ended = isinstance(error, BrokenPipeError) and _reader_has_ended()
        if not (is_full or is_ended):
            raise
        # Python would otherwise try to write the rest when it ends, and print another error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if is_ended:
            sys.exit(getattr(error.__context__, "code", 0))
        _tell("error: cannot write the output: {}".format(error.strerror))
        sys.exit(USER_ERROR_STATUS)


def _reader_has_ended():
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def flag_definer(flag_values):
    """Return absl's functions that define flags, for one `FlagValues`.

    Returns:
        Namespace of `string`, `integer`, `float`, `bool`, `enum`, `list` and `validator`; they
        take the arguments of `absl.flags.DEFINE_string` and so on.
    """
    flag_types = ("string", "integer", "float", "bool", "enum", "list")
    functions = {flag_type: getattr(flags, "DEFINE_" + flag_type) for flag_type in flag_types}
    functions["float"] = _define_float
    functions["validator"] = flags.register_validator
    options = {"flag_values": flag_values}
    return types.SimpleNamespace(
        **{
            flag_type: functools.partial(function, **options)
            for flag_type, function in functions.items()
        }
    )


def _define_float(name, *values, flag_values, **options):
    """Define a float flag that refuses nan and inf, which absl accepts even within bounds."""
    flags.DEFINE_float(name, *values, flag_values=flag_values, **options)
    flags.register_validator(
        name, lambda value: value is None or math.isfinite(value), "give a number", flag_values
    )


def set_up_log():
    """Give the logs of absl and TensorFlow one format, and hide lines that are not about the run.

    The function hides the INFO lines of TensorFlow's own modules, such as the dump of a RunConfig,
    and the warnings of `NOISE`. Other warnings and errors stay.
    """
    absl_logging.use_absl_handler()
    formatter = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%m-%d %H:%M:%S")
    absl_logging.get_absl_handler().setFormatter(formatter)
    tensorflow = logging.getLogger("tensorflow")
    tensorflow.handlers = []  # TensorFlow's lines go to absl's handler.
    tensorflow.addFilter(_is_worth_reading)


def _is_worth_reading(record):
    packages = {"tensorflow", "tensorflow_core", "tensorflow_estimator"}
    if not packages.intersection(os.path.normpath(record.pathname).split(os.sep)):
        return True
    is_noise = record.levelno <= logging.WARNING and NOISE.search(record.getMessage())
    return record.levelno > logging.INFO and not is_noise


def _exit_on_mistake(function, *arguments):
    try:
        return function(*arguments)
    except UserError as error:
        message, status = "error: " + " ".join(str(error).split("\n")), USER_ERROR_STATUS
    except KeyboardInterrupt:
        message, status = "interrupted", INTERRUPTED_STATUS
    except Exception as error:
        # Libraries raise errors of their own for a full disk; `_standard_output` handles `OSError`.
        reason = str(error).strip().split("\n")[0]
        if isinstance(error, OSError) or FULL_DISK not in reason:
            raise
        message, status = "error: {}: make room, then start again".format(reason), USER_ERROR_STATUS
    _tell(message)
    sys.exit(status)


def _tell(message):
    sys.stderr.write("{}: {}\n".format(os.path.basename(sys.argv[0]), message))
    sys.stderr.flush()


def _help(define_flags, words):
    """Return the script's docstring and its own flags, without absl's flags."""
    own = flags.FlagValues()
    define_flags(own)
    usage = "\n\nusage: {} {}".format(os.path.basename(sys.argv[0]), words) if words else ""
    about = sys.modules["__main__"].__doc__ or ""
    return "{}{}\n\nflags:{}".format(about, usage, own.get_help())


def _parse_into(flag_values, argv, words):
    _refuse_other_encodings(argv[1:])
    # A shell expands ~ only at the beginning of a word.
    argv = [re.sub("(?<=[=,])~(?=/)", _home, x) if x.startswith("-") else x for x in argv]
    _refuse_other_dashes(flag_values, argv[1:])
    _refuse_joined_flags(flag_values, argv[1:])
    if not words and argv[-1].isspace():  # the shell takes the next line for another command
        raise UserError(
            "argument {!r} is blank: a backslash that continues a line must be its last "
            "character".format(argv[-1])
        )
    try:
        rest = flag_values(argv)
    except flags.Error as error:
        raise UserError(_mistake(error, flag_values, argv[1:], words)) from error
    _refuse_empty(flag_values)
    _refuse_wide_commas(flag_values)
    if len(rest) > 1 and not words:
        raise UserError(
            "unexpected argument {!r}: flags are written --name=value (--help lists them), several "
            "values of a flag --name=one,two, and a pattern of files in quotes".format(rest[1])
        )
    return rest


def _refuse_empty(flag_values):
    """Raise `UserError` for a text or list that is given and empty, as `--flag=$UNSET` is.

    Without this check the run would go on as if the flag were left out: from random weights, say.
    """
    for name in flag_values:
        value = flag_values[name].value
        texts = value.split(",") if isinstance(value, str) else value
        is_given = flag_values[name].present and isinstance(texts, list)
        if is_given and not any(text.strip() for text in texts):
            raise UserError(
                "--{} is empty: is a shell variable unset? Give a value, or leave the flag "
                "out".format(name)
            )


def _refuse_other_encodings(words):
    """Raise `UserError` for a word that is not UTF-8, such as a text from a GBK terminal.

    Without this check the tokenizer would drop the bytes, and no report could name the file.
    """
    for word in words:
        mistake = file_types.name_mistake(word)
        if mistake:
            raise UserError("argument " + mistake)


def _refuse_other_dashes(flag_values, words):
    """Raise `UserError` for a flag with wrong signs, such as `—name=value` or `--name＝value`.

    Without this check `predict.py` would take the word for a text, and other scripts would miss the
    flag.
    """
    for word in words:
        meant = MEANT_FLAG.match(word)
        name = meant.group(1) if meant and not FLAG.match(word) else ""
        if name in flag_values or name[:2] == "no" and name[2:] in flag_values:
            text = "{}: a flag has two hyphens and an ASCII equals sign, without quotes: type --{}"
            raise UserError(text.format(word, name + "=VALUE" * (meant.group(2) != "")))


def _refuse_joined_flags(flag_values, words):
    """Raise `UserError` for two flags in one word, as pages of the web join them.

    The blank between the flags may be a no-break blank. Without this check the second flag would be
    a part of the value of the first.
    """
    for word in words:
        names = {match.group(1) for match in JOINED_FLAG.finditer(word)} if FLAG.match(word) else ()
        joined = sorted(name for name in names if name in flag_values)
        if joined and not word.lstrip("-").startswith(HOLDS_FLAGS):
            text = "{!r}: --{} is a part of this value: type an ASCII blank before it, no quotes"
            raise UserError(text.format(word, joined[0]))


def _refuse_wide_commas(flag_values):
    """Raise `UserError` for a list that only wide commas divide, such as `--labels=0，1`."""
    for name in flag_values:
        value = flag_values[name].value
        is_one = flag_values[name].present and isinstance(value, list) and len(value) == 1
        if is_one and WIDE_COMMA.search(value[0]):
            listed = WIDE_COMMA.sub(",", value[0])
            raise UserError("--{}={}: type ASCII commas: {}".format(name, value[0], listed))


def _home(_):
    return os.path.expanduser("~")


def _mistake(error, flag_values, arguments, words):
    """Return the line that reports an error of absl's parser."""
    what = " ".join(str(error).split())
    missing = re.search(r"Flag (--\w+) must have a value", what)
    if missing:
        what = missing.group(1) + " is needed"
    elif isinstance(error, flags.UnrecognizedFlagError):
        what = "; ".join(
            "unknown flag --{}{}".format(name, _near(name, flag_values))
            for name in [error.flagname] + _other_unknown(error.flagname, flag_values, arguments)
        )
        if words:
            what += "; put an argument that begins with a hyphen after --"
    for pattern, remedy in WRONG_VALUES.items():
        what = re.sub(pattern, remedy, what)
    return what + " (--help lists the flags)"


def _other_unknown(first, flag_values, arguments):
    """Return the names of unknown flags after the first one; absl's parser stops there."""
    before_end = itertools.takewhile(lambda word: word != "--", arguments)
    written = [match.group(1) for match in map(WRITTEN_FLAG.match, before_end) if match]
    known = set(flag_values) | {"no" + name for name in flag_values} | {first}
    return list(dict.fromkeys(name for name in written if name not in known))


def _near(name, flag_values):
    """Return what to give in place of an unknown flag, or an empty str."""
    if name in OTHER_SCRIPTS:
        return OTHER_SCRIPTS[name]
    modules = {flag: flag_values.find_module_defining_flag(flag) for flag in flag_values}
    own = [flag for flag in modules if not modules[flag].startswith(("absl", "tensorflow"))]
    near = [flag for flag in OTHER_NAMES.get(name, "").split() if flag in own]
    near = near or [flag for flag in own if name in flag and len(name) > 3]
    near = near or difflib.get_close_matches(name, own)
    return ": do you mean --{}?".format(" or --".join(sorted(near))) if near else ""
