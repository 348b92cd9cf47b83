"""LAMB and the shared moment update, against recorded trajectories and numpy."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.tpu import tpu_function, tpu_optimizer

from lamb_optimizer import SCHEMES, LAMBOptimizer, MomentOptimizer

NAMES = ("dense/kernel", "dense/bias", "LayerNorm/gamma", "zero/kernel")


def make_variables(starts, use_resource=True):
    return [
        tf.get_variable(name, initializer=tf.constant(value), use_resource=use_resource)
        for name, value in starts.items()
    ]


def run_steps(make_optimizer, starts, gradients, use_resource=True):
    """Apply one dict of gradients a step; return the dict of values after each step."""
    with tf.Graph().as_default(), tf.Session() as session:
        variables = make_variables(starts, use_resource)
        feeds = {name: tf.placeholder(tf.float32, v.shape) for name, v in zip(starts, variables)}
        op = make_optimizer().apply_gradients([(feeds[n], v) for n, v in zip(starts, variables)])
        session.run(tf.global_variables_initializer())
        values = []
        for step in gradients:
            session.run(op, {feeds[name]: step[name] for name in starts})
            values.append(dict(zip(starts, session.run(variables))))
        return values


def trajectory(path):
    """Read starts, gradients and values of a recorded run of ten steps."""
    with np.load(str(path)) as data:
        starts = {name: data["start/" + name] for name in NAMES}
        read = [
            [{n: data["step%d/%s/%s" % (t, kind, n)] for n in NAMES} for t in range(10)]
            for kind in ("grad", "value")
        ]
    return (starts, *read)


def numpy_lamb(w, gradients, learning_rate, decay, adapt, beta1=0.9, beta2=0.999, epsilon=1e-6):
    """Return the value of one variable after a step with each gradient, in float64."""
    w, m, v = w.astype(np.float64), np.zeros(w.shape), np.zeros(w.shape)
    for g in gradients:
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        u = m / (np.sqrt(v) + epsilon) + decay * w
        norms = np.linalg.norm(w), np.linalg.norm(u)
        w = w - learning_rate * (norms[0] / norms[1] if adapt and all(norms) else 1.0) * u
    return w


@pytest.mark.parametrize("use_resource", [True, False])
@pytest.mark.parametrize("slots", sorted(SCHEMES))
def test_recorded_trajectory(fixtures, slots, use_resource):
    starts, gradients, wanted = trajectory(fixtures / "optimizers" / ("lamb_%s.npz" % slots))
    values = run_steps(lambda: LAMBOptimizer(0.01, slots), starts, gradients, use_resource)
    for step, (got, want) in enumerate(zip(values, wanted)):
        for name in NAMES:
            np.testing.assert_allclose(
                got[name], want[name], rtol=0, atol=1e-6, err_msg="%s, step %d" % (name, step)
            )


@pytest.mark.parametrize("slots", sorted(SCHEMES))
def test_other_settings_agree_with_numpy(slots):
    rng = np.random.RandomState(3)
    starts = {n: rng.normal(size=(4, 3)).astype(np.float32) for n in ("a/kernel", "b/kernel")}
    gradients = [{n: rng.normal(size=(4, 3)) for n in starts} for _ in range(6)]
    settings = {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}

    def make_optimizer():
        return LAMBOptimizer(
            lambda: 0.05, slots, weight_decay=0.2, exclude_from_weight_decay=["^b/"], **settings
        )

    got = run_steps(make_optimizer, starts, gradients)[-1]
    for name, decay, adapt in [("a/kernel", 0.2, True), ("b/kernel", 0.0, slots == "albert_zh")]:
        want = numpy_lamb(
            starts[name], [g[name] for g in gradients], 0.05, decay, adapt, **settings
        )
        np.testing.assert_allclose(got[name], want, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "pattern,decayed",
    [("bias", False), ("bias$", False), ("^dense", False), ("Norm|bias", False), ("^bias", True)],
)
def test_patterns_are_searched_in_the_variable_name(pattern, decayed):
    starts = {"dense/bias": np.full([2], 2.0, np.float32)}
    zero = [{"dense/bias": np.zeros([2])}]

    def make_optimizer():
        return MomentOptimizer(0.5, weight_decay=0.1, exclude_from_weight_decay=[pattern])

    (value,) = run_steps(make_optimizer, starts, zero)
    np.testing.assert_allclose(value["dense/bias"], 1.9 if decayed else 2.0, rtol=1e-6)


def test_step_is_the_learning_rate_times_the_norm_of_the_weights():
    rng = np.random.RandomState(5)
    start = rng.normal(size=(30, 7)).astype(np.float32)
    gradients = [{"kernel": scale * rng.normal(size=start.shape)} for scale in (1e-4, 1e4)]
    previous = start
    for value in run_steps(lambda: LAMBOptimizer(0.02), {"kernel": start}, gradients):
        step = np.linalg.norm(value["kernel"] - previous)
        np.testing.assert_allclose(step, 0.02 * np.linalg.norm(previous), rtol=1e-4)
        previous = value["kernel"]


def test_zero_update_changes_nothing():
    start = np.ones([3], np.float32)
    zero = [{"kernel": np.zeros([3])}] * 2
    for value in run_steps(lambda: LAMBOptimizer(0.1, weight_decay=0), {"kernel": start}, zero):
        np.testing.assert_array_equal(value["kernel"], start)


@pytest.mark.parametrize("slots,names", [(n, s.slot_names) for n, s in sorted(SCHEMES.items())])
def test_slots_are_named_as_in_published_checkpoints(slots, names):
    with tf.Graph().as_default():
        (kernel,) = make_variables({"bert/pooler/dense/kernel": np.ones([2, 2], np.float32)})

        def refuse(getter, *args, **kwargs):
            raise AssertionError("The custom getter of the caller was used for a slot.")

        optimizer = LAMBOptimizer(0.1, slots)
        with tf.variable_scope("outer", custom_getter=refuse):
            optimizer.apply_gradients([(tf.ones([2, 2]), kernel)])
        made = [variable.op.name for variable in tf.global_variables()[1:]]
        assert made == ["bert/pooler/dense/kernel/" + name for name in names]
        assert optimizer.get_slot_names() == list(names)
        assert tf.trainable_variables() == [kernel]


@pytest.mark.parametrize("use_resource", [True, False])
def test_sparse_gradients_equal_dense_ones(use_resource):
    table = np.random.RandomState(7).normal(size=(6, 3)).astype(np.float32)
    rows = [[4, 1, 4], [0, 0, 0]]  # Row 4 occurs twice, row 0 three times; others are untouched.
    values = np.random.RandomState(8).normal(size=(2, 3, 3)).astype(np.float32)

    def train(sparse):
        with tf.Graph().as_default(), tf.Session() as session:
            (variable,) = make_variables({"table": table}, use_resource)
            indices, parts = tf.placeholder(tf.int32, [3]), tf.placeholder(tf.float32, [3, 3])
            gradient = tf.IndexedSlices(parts, indices, tf.constant([6, 3]))
            if not sparse:
                gradient = tf.matmul(tf.one_hot(indices, 6), parts, transpose_a=True)
            op = LAMBOptimizer(0.1).apply_gradients([(gradient, variable)])
            session.run(tf.global_variables_initializer())
            for step_rows, step_values in zip(rows, values):
                session.run(op, {indices: step_rows, parts: step_values})
            return session.run(tf.global_variables())

    for sparse, dense in zip(train(True), train(False)):
        np.testing.assert_allclose(sparse, dense, rtol=1e-6, atol=1e-7)


def quadratic_loss(target):
    """A loss whose gradient depends on `target`, so that replicas can differ."""
    kernel = tf.get_variable("dense/kernel", [3, 2], initializer=tf.constant_initializer(0.3))
    bias = tf.get_variable("dense/bias", [2], initializer=tf.constant_initializer(-0.2))
    return tf.reduce_sum(tf.square(tf.matmul(target, kernel) + bias - 1.0))


def test_inherited_apply_gradients_sums_over_mirrored_replicas():
    targets = np.random.RandomState(2).normal(size=(2, 4, 3)).astype(np.float32)

    def train(mirrored):
        with tf.Graph().as_default():
            if mirrored:
                strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])

                def step():
                    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
                    loss = quadratic_loss(tf.gather(tf.constant(targets), replica))
                    return LAMBOptimizer(0.1, "google").minimize(loss)

                with strategy.scope():
                    steps = strategy.extended.call_for_each_replica(step)
                    op = tf.group(*strategy.experimental_local_results(steps))
            else:
                loss = quadratic_loss(tf.constant(targets.reshape([8, 3])))
                op = LAMBOptimizer(0.1, "google").minimize(loss)
            two_devices = tf.ConfigProto(device_count={"CPU": 2})
            with tf.Session(config=two_devices) as session:
                session.run(tf.global_variables_initializer())
                for _ in range(3):
                    session.run(op)
                return session.run({v.op.name: v for v in tf.global_variables()})

    mirrored, single = train(True), train(False)
    assert set(mirrored) == set(single)
    for name in single:
        np.testing.assert_allclose(mirrored[name], single[name], rtol=1e-5, atol=1e-6)


def test_cross_shard_optimizer_wraps_it(monkeypatch):
    """Two shards with the same data, of which one is simulated, train as one device does."""
    monkeypatch.setattr(tpu_optimizer.tpu_ops, "cross_replica_sum", lambda x, _: 2.0 * x)

    def train(wrap):
        with tf.Graph().as_default(), tf.Session() as session:
            with tpu_function.tpu_shard_context(2):
                op = wrap(LAMBOptimizer(0.1)).minimize(quadratic_loss(tf.ones([4, 3])))
            session.run(tf.global_variables_initializer())
            for _ in range(2):
                session.run(op)
            return session.run({v.op.name: v for v in tf.global_variables()})

    sharded, single = train(tf.tpu.CrossShardOptimizer), train(lambda optimizer: optimizer)
    assert set(sharded) == set(single)
    for name in single:
        np.testing.assert_allclose(sharded[name], single[name], rtol=1e-6)
