"""Measure how long one pair takes from text to label, on one core.

    python benchmarks/predict_latency.py [--config=JSON] [--peer=hf]

A classifier of random weights answers pairs of questions of about 25 pieces, one at a time, in a
process that is pinned to one core. With --peer=hf a second process on that core takes turns with
it: AlbertForSequenceClassification of Hugging Face under PyTorch (equal sizes, BertTokenizerFast,
eager, inference mode, one thread). The last line is a JSON object:

    p50_ms, p95_ms    percentiles of the time of a whole call
    peer              the same percentiles of the peer
    ratio             our p50 divided by the peer's
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from common import tensorflow_settings

tensorflow_settings.set_environment()

VOCABULARY = os.path.join(ROOT, "albert_config", "vocab.txt")
LABELS = ("0", "1")
MAX_SEQ_LENGTH = 128
# Invented pairs in the style of LCQMC: 11 to 41 pieces, 25 on average.
PAIRS = (
    ("天空为什么是蓝的", "天空为什么是蓝色的呢"),
    ("怎么做红烧肉", "红烧肉的做法"),
    ("手机屏幕碎了怎么办", "手机屏幕摔碎了换一个多少钱"),
    ("从北京到上海坐高铁要多久", "北京到上海的高铁几个小时"),
    ("感冒了吃什么药好得快", "感冒的时候能不能喝咖啡"),
    ("这首歌叫什么名字", "有谁知道这首歌的名字吗"),
    ("怎样在家里种小番茄", "阳台上种番茄要注意什么"),
    ("2020年的春节是哪一天", "2020年春节放假安排"),
    ("请问电脑开机以后一直黑屏应该怎么处理", "我的笔记本电脑开机以后屏幕不亮是什么原因"),
    ("猫不吃饭", "狗不吃饭"),
    ("学习英语有什么好的方法推荐吗", "有哪些适合初学者的英语学习方法"),
    ("身份证丢了怎么补办需要带什么材料", "身份证丢失后去异地补办身份证的流程"),
)


def main():
    """Run the contestants in turns and print the result."""
    args = parse_arguments()
    if args.contestant:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        serve(CONTESTANTS[args.contestant](args))
        return
    processes = {name: start(name) for name in ("ours", args.peer) if name}
    seconds = {name: [] for name in processes}
    for turn in range(args.warm_up + args.turns):
        for name, process in processes.items():
            times = ask(process)
            if turn >= args.warm_up:
                seconds[name] += times
    for process in processes.values():
        process.communicate()
    result = summary(seconds["ours"])
    if args.peer:
        result["peer"] = dict(summary(seconds[args.peer]), name=args.peer)
        result["ratio"] = round(result["p50_ms"] / result["peer"]["p50_ms"], 3)
    print(json.dumps(result))


def parse_arguments():
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tiny = os.path.join(ROOT, "albert_config", "albert_config_tiny.json")
    parser.add_argument("--config", default=tiny, help="JSON file of the model")
    parser.add_argument("--peer", choices=["hf"])
    parser.add_argument("--turns", type=int, default=40, help="times that all pairs are answered")
    parser.add_argument("--warm_up", type=int, default=5, help="turns that do not count")
    parser.add_argument("--contestant", choices=sorted(CONTESTANTS), help=argparse.SUPPRESS)
    return parser.parse_args()


def summary(seconds):
    """Return the figures of one contestant as a dict."""
    import numpy as np

    p50, p95 = np.percentile(seconds, [50, 95]) * 1e3
    return {"p50_ms": round(p50, 3), "p95_ms": round(p95, 3)}


# ------------------------------------------------------------------------ processes in turns


def start(name):
    """Start a contestant; it waits for lines on its standard input."""
    command = [sys.executable, os.path.abspath(__file__)] + sys.argv[1:] + ["--contestant", name]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, universal_newlines=True)


def ask(process):
    """Let a contestant answer all pairs; return the seconds of each."""
    process.stdin.write("turn\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith("["):
            return json.loads(line)
    raise SystemExit("a contestant ended with status {}".format(process.wait()))


def serve(predict):
    """Answer all pairs, one at a time, for every line on standard input."""
    for _ in sys.stdin:
        seconds = []
        for pair in PAIRS:
            begin = time.perf_counter()
            label = predict(*pair)
            seconds.append(time.perf_counter() - begin)
            assert label in LABELS
        print(json.dumps(seconds), flush=True)


# ------------------------------------------------------------------------------- contestants


def ours(args):
    """Return our function from a pair to its label."""
    import tensorflow.compat.v1 as tf

    import modeling
    from checkpointing import model_files
    from serving import predictor

    config = modeling.AlbertConfig.from_json_file(args.config)
    with tempfile.TemporaryDirectory() as folder:
        with tf.Graph().as_default(), tf.Session() as session:
            model = modeling.AlbertModel(config, False, tf.zeros([1, 2], tf.int32))
            modeling.classification_head(model, len(LABELS))
            session.run(tf.global_variables_initializer())
            tf.train.Saver().save(session, os.path.join(folder, "model.ckpt"))
        described = ("sentence_pair", LABELS, MAX_SEQ_LENGTH, config.to_dict(), VOCABULARY)
        model_files.write(folder, model_files.Description(*described))
        model = predictor.Predictor(folder)
    return lambda a, b: model.predict([(a, b)])[0]["label"]


def hugging_face(args):
    """Return the peer's function from a pair to its label."""
    import peer
    import torch
    import transformers

    torch.set_num_threads(1)
    config = peer.albert_config(args.config, num_labels=len(LABELS))
    model = transformers.AlbertForSequenceClassification(config).eval()
    tokenizer = transformers.BertTokenizerFast(VOCABULARY)

    def predict(text_a, text_b):
        inputs = tokenizer(
            text_a, text_b, truncation=True, max_length=MAX_SEQ_LENGTH, return_tensors="pt"
        )
        with torch.inference_mode():
            probabilities = torch.softmax(model(**inputs).logits, -1)
        return LABELS[int(probabilities.argmax())]

    return predict


CONTESTANTS = {"ours": ours, "hf": hugging_face}


if __name__ == "__main__":
    main()
