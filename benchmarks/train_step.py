"""Measures the speed of a pre-training step, and compares it with the speed of matrix products.

    python benchmarks/train_step.py --config=albert_config/albert_config_tiny.json \
        --batch_size=32 --max_seq_length=128 [--precision=bfloat16] [--use_xla] [--peer=hf|packed]

The steps run on a GPU if TensorFlow finds one, and the peer on a GPU if PyTorch finds one. In one
process the script takes whole steps (forward, backward, clipping, LAMB) on random
full-length sequences, or on the first records of --records. With --peer=hf a second process takes
the same steps with AlbertForPreTraining of Hugging Face and AdamW under PyTorch, in turns with
ours. With --peer=packed the second process takes our steps on rows that are packed with
--chunks_per_row chunks, or on the rows of --packed_records. The last line is a JSON object:

    step_seconds           median over --steps, after --warm_up
    examples_per_second
    pieces_per_second      padding left out
    matmul_flop_per_step   see `matmul_flop`
    matmul_peak_gflops     the best of many products of square matrices, in our process: on a CPU
                           float32 and 2048 x 2048, on a GPU in --precision and 8192 x 8192
    mfu                    matmul_flop_per_step / step_seconds / peak
    peak_rss_mb            highest resident memory of the process
    peer                   the same for the peer; its mfu uses the peak of our process
"""

import argparse
import contextlib
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from common import tensorflow_settings

tensorflow_settings.set_environment()

PEAK_SIZES = {None: 2048, "GPU": 8192}  # of matrices, by accelerator
PRODUCTS_A_TURN = 3
NUM_BATCHES = 32  # batches of --records, which are taken in turns
LEARNING_RATE = 1e-4


def main():
    """Run the contestants in turns and print the result."""
    args = parse_arguments()
    if args.contestant:
        serve(CONTESTANTS[args.contestant](args))
        return
    names = ["ours"] + ([args.peer] if args.peer else [])
    processes = {name: start(name, args) for name in names}
    for process in processes.values():
        for _ in range(args.warm_up):
            ask(process, "step")
    seconds = {name: [] for name in names}
    peaks = []
    for _ in range(args.steps):
        peaks += [ask(processes["ours"], "peak") for _ in range(PRODUCTS_A_TURN)]
        for name, process in processes.items():
            seconds[name].append(ask(process, "step"))
    peak = ask(processes["ours"], "peak_flop") / min(peaks)
    results = {
        name: summary(args, process, seconds[name], peak) for name, process in processes.items()
    }
    for process in processes.values():
        process.communicate("quit\n")
    result = results["ours"]
    if args.peer:
        result["peer"] = dict(results[args.peer], name=args.peer)
    print(json.dumps(result))


def parse_arguments():
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="JSON file of the model")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_seq_length", type=int, default=128)
    parser.add_argument("--max_predictions_per_seq", type=int, help="default: 15%% of the length")
    parser.add_argument("--precision", default="float32", help="of float32, bfloat16, float16")
    parser.add_argument("--use_xla", action="store_true", help="compile our whole step by XLA")
    parser.add_argument("--recompute_activations", action="store_true")
    parser.add_argument("--peer", choices=["hf", "hf_compiled", "packed"])
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter with PyTorch")
    parser.add_argument("--chunks_per_row", type=int, default=8, help="of --peer=packed")
    parser.add_argument("--records", help="file of create_pretraining_data.py")
    parser.add_argument("--packed_records", help="the same for --peer=packed")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--warm_up", type=int, default=3)
    parser.add_argument("--contestant", choices=sorted(CONTESTANTS), help=argparse.SUPPRESS)
    parser.set_defaults(use_tpu=False, strategy="none")  # settings of the module devices
    args = parser.parse_args()
    if args.max_predictions_per_seq is None:
        args.max_predictions_per_seq = max(1, round(0.15 * args.max_seq_length))
    return args


def matmul_flop(config, batch_size, sequence_length, num_predictions):
    """Count the floating-point operations of the matrix products of a training step.

    A multiply-add has two operations. The backward pass has two products for each product of the
    forward pass, hence the factor 3 (arXiv 2001.08361, section 2.1). Every layer counts in full.

    Args:
        config: `AlbertConfig`.
        batch_size, sequence_length, num_predictions: int, B, S and P.
    """
    hidden, embedding = config.hidden_size, config.embedding_width
    pieces = batch_size * sequence_length
    predictions = batch_size * num_predictions
    layer = 4 * hidden * hidden + 2 * hidden * config.intermediate_size
    scores = 2 * sequence_length * hidden
    head = hidden * hidden + hidden * embedding + embedding * config.vocab_size
    multiply_adds = pieces * (embedding * hidden + config.num_hidden_layers * (layer + scores))
    multiply_adds += predictions * head + batch_size * hidden * (hidden + 2)
    return 3 * 2 * multiply_adds


def summary(args, process, seconds, peak):
    """Return the figures of one contestant as a dict; `peak` is in FLOP/s."""
    import modeling

    config = modeling.AlbertConfig.from_json_file(args.config)
    step = statistics.median(seconds)
    flop = matmul_flop(config, args.batch_size, args.max_seq_length, args.max_predictions_per_seq)
    return {
        "step_seconds": round(step, 4),
        "examples_per_second": round(args.batch_size / step, 2),
        "pieces_per_second": round(ask(process, "pieces") / step),
        "matmul_flop_per_step": flop,
        "matmul_peak_gflops": round(peak / 1e9, 1),
        "mfu": round(flop / step / peak, 3),
        "peak_rss_mb": round(ask(process, "memory"), 1),
    }


# ------------------------------------------------------------------------ processes in turns


def start(name, args):
    """Start a contestant; it waits for commands on its standard input."""
    python = args.peer_python if name.startswith("hf") else sys.executable
    command = [python, os.path.abspath(__file__)] + sys.argv[1:] + ["--contestant", name]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True
    )


def ask(process, command):
    """Send a command and return the number that comes back."""
    process.stdin.write(command + "\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith("answer "):
            return float(line.split()[1])
    raise SystemExit("a contestant ended with status {}".format(process.wait()))


def serve(actions):
    """Answer the commands on standard input, one a line, until `quit`.

    The answer to `step` is the seconds of a training step, to `peak` the seconds of a matrix
    product of `peak_flop` operations, to `memory` the most memory used in MB, and to `pieces` the
    pieces of a step.
    """
    for line in sys.stdin:
        command = line.strip()
        if command == "quit":
            return
        if command == "memory":
            answer = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        elif command in ("pieces", "peak_flop"):
            answer = actions[command]
        else:
            begin = time.perf_counter()
            actions[command]()
            answer = time.perf_counter() - begin
        print("answer", answer, flush=True)


# ------------------------------------------------------------------------------- contestants


def random_batch(args, vocab_size):
    """Return one batch as run_pretraining.py gets it, a dict of numpy arrays; no padding."""
    import numpy as np

    rng = np.random.RandomState(0)
    batch, length, predictions = (
        args.batch_size,
        args.max_seq_length,
        args.max_predictions_per_seq,
    )
    return {
        "input_ids": rng.randint(vocab_size, size=[batch, length]).astype(np.int32),
        "input_mask": np.ones([batch, length], np.int32),
        "segment_ids": np.tile(np.arange(length) * 2 // length, [batch, 1]).astype(np.int32),
        "masked_lm_positions": np.stack(
            [np.sort(rng.permutation(length)[:predictions]) for _ in range(batch)]
        ).astype(np.int32),
        "masked_lm_ids": rng.randint(vocab_size, size=[batch, predictions]).astype(np.int32),
        "masked_lm_weights": np.ones([batch, predictions], np.float32),
        "next_sentence_labels": rng.randint(2, size=[batch, 1]).astype(np.int32),
        "next_sentence_weights": np.ones([batch, 1], np.float32),
    }


def packed_batch(args, vocab_size):
    """Return a batch of full packed rows; a row has --chunks_per_row chunks of random lengths."""
    import numpy as np

    rng = np.random.RandomState(1)
    batch = random_batch(args, vocab_size)
    del batch["input_mask"]
    shape = args.batch_size, args.chunks_per_row
    starts = np.zeros(shape, np.int32)  # [B, K]
    for row in starts:
        others = rng.permutation(args.max_seq_length - 1)[: args.chunks_per_row - 1]
        row[1:] = np.sort(others + 1)
    positions = np.arange(args.max_seq_length)
    chunks = np.sum(positions[:, np.newaxis] >= starts[:, np.newaxis], axis=2)  # [B, S]
    return dict(
        batch,
        chunk_ids=chunks.astype(np.int32),
        position_ids=positions.astype(np.int32) - np.take_along_axis(starts, chunks - 1, axis=1),
        chunk_starts=starts,
        next_sentence_labels=rng.randint(2, size=shape).astype(np.int32),
        next_sentence_weights=np.ones(shape, np.float32),
    )


def read_batches(args, path):
    """Return the first batches of a file of records, as run_pretraining.py trains on them."""
    import tensorflow.compat.v1 as tf

    import run_pretraining
    from common import cli
    from pretraining import inputs

    flags = {name: getattr(args, name) for name in ("max_seq_length", "max_predictions_per_seq")}
    flags.update(input_file=path, bert_config_file=args.config, do_train=True)
    flags.update(train_batch_size=args.batch_size)
    with contextlib.ExitStack() as stack:
        flags["output_dir"] = stack.enter_context(tempfile.TemporaryDirectory())  # of the index
        argv = ["train_step.py"] + ["--{}={}".format(*item) for item in flags.items()]
        parsed = cli.parse(run_pretraining.define_flags, argv)
        input_fn = inputs.make_input_fn(parsed, inputs.read_records(parsed).train, training=True)
        stack.enter_context(tf.Graph().as_default())
        session = stack.enter_context(tf.Session())
        dataset = input_fn({"batch_size": args.batch_size})
        batches = tf.data.make_one_shot_iterator(dataset).get_next()
        return [session.run(batches) for _ in range(NUM_BATCHES)]


def ours(args, make_batch=random_batch, records=None):
    """Return the actions of this code base."""
    import numpy as np
    import tensorflow.compat.v1 as tf

    import modeling
    import optimization
    from pretraining.model import make_forward
    from training import devices

    tf.disable_eager_execution()
    config = modeling.AlbertConfig.from_json_file(args.config)
    execution = modeling.Execution(**devices.execution_fields(args))
    batches = read_batches(args, records) if records else [make_batch(args, config.vocab_size)]
    batch = batches[0]
    features = {name: tf.placeholder(values.dtype, values.shape) for name, values in batch.items()}
    forward = make_forward(config, execution)
    optimizer = optimization.OptimizerConfig("lamb", LEARNING_RATE, num_train_steps=1000)
    train_op = optimization.create_train_op(
        lambda _: {"loss": forward(features, tf.estimator.ModeKeys.TRAIN).loss},
        optimizer,
        use_xla=args.use_xla,
        fused=execution.fused,
    )
    accelerator = devices.accelerator(args)
    size, dtype = PEAK_SIZES[accelerator], args.precision if accelerator else "float32"
    numbers = tf.cast(tf.random_normal([size, size]), dtype)
    matrix = tf.get_variable("matrix", initializer=numbers, trainable=False)
    product = tf.matmul(matrix, matrix).op
    session = tf.Session(config=devices.session_config(args))
    session.run(tf.global_variables_initializer())
    feeds = itertools.cycle(
        [{features[name]: values for name, values in batch.items()} for batch in batches]
    )
    is_piece = [batch.get("input_mask", batch.get("chunk_ids")) != 0 for batch in batches]
    return {
        "step": lambda: session.run([train_op.op, train_op.sums["loss"]], next(feeds)),
        "peak": lambda: session.run(product),
        "peak_flop": 2 * size**3,
        "pieces": sum(map(np.count_nonzero, is_piece)) / len(batches),
    }


def hugging_face(args, compiled=False):
    """Return the actions of the peer, transformers.AlbertForPreTraining with AdamW."""
    import peer
    import torch
    import transformers

    config = peer.albert_config(args.config)
    device = peer.device()
    model = transformers.AlbertForPreTraining(config).to(device)
    model.train()
    batch = {
        name: torch.from_numpy(values).long().to(device)
        for name, values in random_batch(args, config.vocab_size).items()
    }
    labels = torch.full_like(batch["input_ids"], -100)
    labels.scatter_(1, batch["masked_lm_positions"], batch["masked_lm_ids"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    run = torch.compile(model) if compiled else model

    def step():
        optimizer.zero_grad()
        with peer.autocast(device, args.precision):
            outputs = run(
                input_ids=batch["input_ids"],
                attention_mask=batch["input_mask"],
                token_type_ids=batch["segment_ids"],
                labels=labels,
                sentence_order_label=batch["next_sentence_labels"][:, 0],
            )
        outputs.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return outputs.loss.item()

    return {"step": step, "pieces": batch["input_mask"].sum().item()}


CONTESTANTS = {
    "ours": lambda args: ours(args, records=args.records),
    "hf": hugging_face,
    "hf_compiled": lambda args: hugging_face(args, compiled=True),
    "packed": lambda args: ours(args, packed_batch, args.packed_records),
}


if __name__ == "__main__":
    main()
