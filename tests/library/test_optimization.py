"""AdamW, the schedule and the training operation: recorded runs, numpy, replicas, resume."""

import types

import helpers
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import optimization
from common.errors import UserError
from optimization import (
    AdamWeightDecayOptimizer,
    OptimizerConfig,
    checked_config,
    create_train_op,
    learning_rate_schedule,
)
from training import devices

CONFIG = OptimizerConfig("lamb", learning_rate=0.1, num_train_steps=10)
CONFIGS = [
    CONFIG,
    CONFIG._replace(slots="google"),
    CONFIG._replace(optimizer="adamw"),
]
BATCH = np.random.RandomState(1).normal(size=(2, 4, 3)).astype(np.float32)


def model_loss(features):
    """Return a loss of a table, read sparsely, a kernel and a bias.

    Args:
      features: float32 [4, 3].
    """
    table = tf.get_variable("table", [5, 3], initializer=tf.constant_initializer(0.1))
    kernel = tf.get_variable("dense/kernel", [3, 2], initializer=tf.constant_initializer(0.3))
    bias = tf.get_variable("dense/bias", [2], initializer=tf.constant_initializer(-0.2))
    hidden = features + tf.gather(table, [2, 0, 2, 4])  # [4, 3]
    return tf.reduce_mean(tf.square(tf.matmul(hidden, kernel) + bias - 1.0))


def forward_of(*micro_batches):
    """Return a `forward` for `create_train_op`; the parts [4, 3] have equal shares of the loss."""

    def forward(index):
        return {"loss": model_loss(tf.gather(tf.stack(micro_batches), index)) / len(micro_batches)}

    return forward


def train(config, steps, features=BATCH[0], directory=None, **options):
    """Run `steps` steps in a new graph; return the variables by name and the scalars of each step.

    With a directory, it continues from the checkpoint there, if there is one, and saves one.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        parts = [tf.constant(features)] * options.get("num_micro_batches", 1)
        train_op = create_train_op(forward_of(*parts), config, **options)
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver()
        if directory and tf.train.latest_checkpoint(directory):
            saver.restore(session, tf.train.latest_checkpoint(directory))
        scalars = [session.run(train_op).scalars for _ in range(steps)]
        if directory:
            saver.save(session, directory + "/model.ckpt", tf.train.get_global_step())
        return session.run({v.op.name: v for v in tf.global_variables()}), scalars


def gradients_and_norm(features):
    """Return the dense gradients by variable name at the start, and their norm in numpy."""
    with tf.Graph().as_default(), tf.Session() as session:
        loss = model_loss(tf.constant(features))
        variables = tf.trainable_variables()
        gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, variables)]
        session.run(tf.global_variables_initializer())
        values = session.run(gradients)
        norm = np.sqrt(sum(np.sum(np.square(value)) for value in values))
        return {v.op.name: value for v, value in zip(variables, values)}, norm


def assert_same(got, want, **tolerance):
    assert set(got) == set(want)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], err_msg=name, **tolerance)


def test_adamw_recorded_trajectory(fixtures):
    with np.load(str(fixtures / "optimizers" / "adamw.npz")) as data, tf.Graph().as_default():
        names = [key[len("start/") :] for key in data if key.startswith("start/")]
        variables = [tf.get_variable(n, initializer=data["start/" + n]) for n in names]
        feeds = [tf.placeholder(tf.float32, v.shape) for v in variables]
        op = AdamWeightDecayOptimizer(0.01).apply_gradients(zip(feeds, variables))
        slots = {v.op.name for v in tf.global_variables()} - set(names)
        assert slots == {name + slot for name in names for slot in ("/adam_m", "/adam_v")}
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            for step in range(10):
                values = [data["step%d/grad/%s" % (step, name)] for name in names]
                session.run(op, dict(zip(feeds, values)))
                for name, value in zip(names, session.run(variables)):
                    want = data["step%d/value/%s" % (step, name)]
                    np.testing.assert_allclose(value, want, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("warmup", [0, 1, 40, 100])
@pytest.mark.parametrize("end", [0.0, 1e-4])
def test_schedule(warmup, end):
    config = CONFIG._replace(
        learning_rate=2e-3, num_train_steps=100, num_warmup_steps=warmup, end_learning_rate=end
    )
    steps = np.arange(130)
    with tf.Graph().as_default(), tf.Session() as session:
        global_step = tf.placeholder(tf.int64, [])
        rate = learning_rate_schedule(config, global_step)
        assert rate.dtype == tf.float32
        got = [session.run(rate, {global_step: step}) for step in steps]
    decayed = (2e-3 - end) * (1 - np.minimum(steps, 100) / 100.0) + end
    want = np.where(steps < warmup, 2e-3 * steps / max(warmup, 1), decayed)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    "field,value,named",
    [
        ("optimizer", "sgd", "adamw, lamb"),
        ("slots", "bert", "albert_zh, google"),
        ("learning_rate", -1e-4, "0 or more"),
        ("learning_rate", float("nan"), "0 or more"),
        ("end_learning_rate", -1.0, "0 or more"),
        ("num_train_steps", 0, "1 or more"),
        ("num_warmup_steps", 11, "num_train_steps (10)"),
        ("num_warmup_steps", -1, "num_train_steps (10)"),
        ("weight_decay", -0.1, "0 or more"),
        ("beta1", 1.0, "below 1"),
        ("beta2", -0.1, "at least 0"),
        ("epsilon", 0.0, "above 0"),
        ("clip_norm", -1.0, "0 (no clipping)"),
    ],
)
def test_bad_config_is_a_user_error(field, value, named):
    with pytest.raises(UserError) as error:
        checked_config(**CONFIG._replace(**{field: value})._asdict())
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in (field, repr(value), named))


@pytest.mark.parametrize("config", CONFIGS)
def test_good_configs_pass(config):
    for changes in ({}, {"num_warmup_steps": 10, "learning_rate": 0.0, "clip_norm": 0.0}):
        changed = config._replace(**changes)
        assert checked_config(**changed._asdict()) == changed


def test_each_step_counts_once_and_uses_the_rate_of_its_own_step():
    config = CONFIG._replace(num_warmup_steps=2)
    variables, scalars = train(config, 5)
    assert variables["global_step"] == 5
    rates = [step["learning_rate"] for step in scalars]
    np.testing.assert_allclose(rates, [0.0, 0.05, 0.08, 0.07, 0.06], rtol=1e-5)
    start, _ = train(config, 0)
    first, _ = train(config, 1)
    np.testing.assert_array_equal(first["dense/kernel"], start["dense/kernel"])
    assert np.any(first["dense/kernel/lamb_m"] != 0)


@pytest.mark.parametrize("clip_norm", [0.0, 1e-2, 1e3])
def test_gradients_are_clipped_by_their_global_norm(clip_norm):
    gradients, norm = gradients_and_norm(BATCH[0])
    variables, (scalars,) = train(CONFIG._replace(clip_norm=clip_norm), 1)
    np.testing.assert_allclose(scalars["grad_norm"], norm, rtol=1e-5)
    scale = clip_norm / norm if 0 < clip_norm < norm else 1.0
    for name, gradient in gradients.items():
        np.testing.assert_allclose(
            variables[name + "/lamb_m"], 0.1 * scale * gradient, rtol=1e-4, atol=1e-9
        )


def test_variables_without_gradient_are_left_out_and_named(monkeypatch):
    lines = []
    monkeypatch.setattr(tf.logging, "info", lambda text, *args: lines.append(text % args))
    with tf.Graph().as_default():
        tf.get_variable("idle/kernel", [2])
        create_train_op(forward_of(tf.constant(BATCH[0])), CONFIG)
        names = {v.op.name for v in tf.global_variables()}
    assert "dense/kernel/lamb_m" in names and "idle/kernel/lamb_m" not in names
    assert len(lines) == 1 and "idle/kernel" in lines[0] and "dense" not in lines[0]


def test_only_given_variables_are_trained():
    with tf.Graph().as_default(), tf.Session() as session:
        forward = forward_of(tf.constant(BATCH[0]))
        forward(0)
        kernel, bias = [v for v in tf.trainable_variables() if v.op.name.startswith("dense")]
        with tf.variable_scope("", reuse=tf.AUTO_REUSE):
            train_op = create_train_op(forward, CONFIG, variables=[bias])
        session.run(tf.global_variables_initializer())
        before = session.run([kernel, bias])
        session.run(train_op.op)
        after = session.run([kernel, bias])
    np.testing.assert_array_equal(before[0], after[0])
    assert np.any(before[1] != after[1])


def test_loss_of_no_variable_is_refused():
    with tf.Graph().as_default(), pytest.raises(ValueError, match="idle"):
        tf.get_variable("idle", [2])
        create_train_op(lambda index: {"loss": tf.constant(1.0)}, CONFIG)


@pytest.mark.parametrize("config", CONFIGS)
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(config, tmp_path):
    config = config._replace(num_warmup_steps=3)
    whole, scalars = train(config, 6)
    _, before = train(config, 4, directory=str(tmp_path))
    resumed, after = train(config, 2, directory=str(tmp_path))
    assert before + after == scalars
    assert_same(resumed, whole, rtol=0, atol=0)
    assert {name for name, _ in tf.train.list_variables(str(tmp_path))} == set(whole)


@pytest.mark.parametrize("config, scale_loss", zip(CONFIGS, (False, True, True)))
def test_mirrored_replicas_equal_one_device_on_the_sum_of_gradients(config, scale_loss):
    config = config._replace(clip_norm=0.3, exclude_from_weight_decay=("bias$",), weight_decay=0.5)
    with tf.Graph().as_default():
        strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])

        def step():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            forward = forward_of(tf.gather(tf.constant(BATCH), replica))
            return create_train_op(forward, config, scale_loss=scale_loss)

        with strategy.scope():
            train_op = strategy.extended.call_for_each_replica(step)
        op = tf.group(*strategy.experimental_local_results(train_op.op))
        norm = strategy.experimental_local_results(train_op.scalars["grad_norm"])[0]
        copies = {v.op.name: strategy.experimental_local_results(v) for v in tf.global_variables()}
        with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
            session.run(tf.global_variables_initializer())
            mirrored_norms = [session.run([op, norm])[1] for _ in range(3)]
            copies = session.run(copies)

    with tf.Graph().as_default(), tf.Session() as session:
        with tf.variable_scope("", reuse=tf.AUTO_REUSE):
            losses = [model_loss(tf.constant(features)) for features in BATCH]
        train_op = create_train_op(
            lambda index: {"loss": tf.add_n(losses)}, config, scale_loss=scale_loss
        )
        session.run(tf.global_variables_initializer())
        single_norms = [session.run(train_op).scalars["grad_norm"] for _ in range(3)]
        single = session.run({v.op.name: v for v in tf.global_variables()})

    assert min(single_norms) > config.clip_norm
    np.testing.assert_allclose(mirrored_norms, single_norms, rtol=1e-5)
    for replica in (0, 1):
        of_replica = {name: values[replica] for name, values in copies.items()}
        assert_same(of_replica, single, rtol=1e-5, atol=1e-6)


def test_tpu_shards_are_added_up_before_clipping(monkeypatch):
    """The sum over two shards is simulated: both shards have the same gradients."""
    monkeypatch.setattr(tf.tpu, "cross_replica_sum", lambda x: 2.0 * x)
    _, norm = gradients_and_norm(BATCH[0])
    # Clipping changes the sum of both shards, but it would not change one shard alone.
    config = CONFIG._replace(clip_norm=1.5 * float(norm))
    sharded, (scalars,) = train(config, 1, use_tpu=True)
    np.testing.assert_allclose(scalars["grad_norm"], 2 * norm, rtol=1e-5)
    moments = [v for name, v in sharded.items() if name.endswith("lamb_m")]
    clipped = np.sqrt(sum(np.sum(np.square(10.0 * m)) for m in moments))
    np.testing.assert_allclose(clipped, config.clip_norm, rtol=1e-4)


@pytest.mark.parametrize("config, num_micro_batches", zip(CONFIGS, (2, 8, 2)))
def test_micro_batches_equal_one_batch_clipped_once(config, num_micro_batches):
    config = config._replace(clip_norm=0.3)
    parts = np.random.RandomState(2).normal(size=(8, 4, 3)).astype(np.float32)

    def trained(count):
        def forward(index):
            part = tf.reshape(tf.constant(parts), [count, -1, 3])[index]
            hidden = tf.reshape(part, [-1, 4, 3])
            losses = [model_loss(features) for features in tf.unstack(hidden)]
            return {"loss": tf.add_n(losses) / 8.0, "ones": tf.ones([])}

        with tf.Graph().as_default() as graph, tf.Session() as session:
            with tf.variable_scope("", reuse=tf.AUTO_REUSE):
                train_op = create_train_op(forward, config, count)
            session.run(tf.global_variables_initializer())
            steps = [session.run(train_op) for _ in range(3)]
            variables = session.run({v.op.name: v for v in tf.global_variables()})
            return steps, variables, len(graph.get_operations())

    whole_steps, whole, _ = trained(1)
    steps, variables, size = trained(num_micro_batches)
    assert_same(variables, whole, rtol=1e-4, atol=1e-6)
    for step, whole_step in zip(steps, whole_steps):
        assert step.sums["ones"] == num_micro_batches
        assert whole_step.scalars["grad_norm"] > config.clip_norm
        np.testing.assert_allclose(step.sums["loss"], whole_step.sums["loss"], rtol=1e-5)
        np.testing.assert_allclose(
            step.scalars["grad_norm"], whole_step.scalars["grad_norm"], rtol=1e-5
        )


def test_size_of_the_graph_does_not_depend_on_the_number_of_micro_batches():
    sizes = []
    for count in (2, 64):
        with tf.Graph().as_default() as graph:
            create_train_op(lambda index: {"loss": model_loss(tf.ones([4, 3]))}, CONFIG, count)
            sizes.append(len(graph.as_graph_def().SerializeToString()))
    assert abs(sizes[0] - sizes[1]) < 100


def test_range_of_trust_ratios_is_told():
    gradients, _ = gradients_and_norm(BATCH[0])
    config = CONFIG._replace(clip_norm=0.0, weight_decay=0.0)
    start, _ = train(config, 0)
    _, (scalars,) = train(config, 1)
    ratios = []
    for name, gradient in gradients.items():
        update = 0.1 * gradient / (np.sqrt(0.001 * np.square(gradient)) + config.epsilon)
        ratios.append(np.linalg.norm(start[name]) / np.linalg.norm(update))
    np.testing.assert_allclose(scalars["trust_ratio_min"], min(ratios), rtol=1e-4)
    np.testing.assert_allclose(scalars["trust_ratio_max"], max(ratios), rtol=1e-4)
    assert min(ratios) < max(ratios)
    _, (scalars,) = train(config._replace(optimizer="adamw"), 1)
    assert set(scalars) == {"learning_rate", "grad_norm"}


@pytest.mark.parametrize("config", CONFIGS)
def test_a_scaled_loss_changes_nothing_but_the_checkpoint(config):
    config = config._replace(clip_norm=0.3)
    plain, plain_scalars = train(config, 3)
    scaled, scalars = train(config, 3, scale_loss=True)
    assert scaled.pop("loss_scale") == 2.0**15 and scaled.pop("good_steps") == 3
    assert_same(scaled, plain, rtol=1e-5, atol=1e-6)
    for one, other in zip(scalars, plain_scalars):
        assert one.pop("loss_scale") == 2.0**15
        assert_same(one, other, rtol=1e-5)


def scaled_steps(features, steps, first_scale=None, num_micro_batches=1):
    """Train with a scaled loss on features [4, 3] that may differ from step to step."""
    with tf.Graph().as_default(), tf.Session() as session:
        feed = tf.placeholder(tf.float32, [4, 3])
        forward = forward_of(*[feed] * num_micro_batches)
        train_op = create_train_op(forward, CONFIG, num_micro_batches, scale_loss=True)
        session.run(tf.global_variables_initializer())
        variables = {v.op.name: v for v in tf.global_variables()}
        if first_scale:
            session.run(variables["loss_scale"].assign(first_scale))
        states, ran = [session.run(variables)], []
        for step in range(steps):
            ran.append(session.run(train_op, {feed: features(step)}))
            states.append(session.run(variables))
        return states, ran


@pytest.mark.parametrize("num_micro_batches", [1, 3])
def test_a_step_whose_gradient_overflows_is_skipped_and_halves_the_scale(num_micro_batches):
    states, ran = scaled_steps(
        lambda step: BATCH[0] * (1e18 if step == 1 else 1.0), 3, num_micro_batches=num_micro_batches
    )
    before, after = states[1:3]
    changed = {name for name in after if np.any(after[name] != before[name])}
    assert changed == {"global_step", "loss_scale", "good_steps"}
    assert [state["global_step"] for state in states] == [0, 1, 2, 3]
    assert [state["loss_scale"] for state in states] == [2.0**15, 2.0**15, 2.0**14, 2.0**14]
    assert [state["good_steps"] for state in states] == [0, 1, 0, 1]
    assert not np.isfinite(ran[1].scalars["grad_norm"]) and ran[1].watched["grad_norm"] == 0
    assert np.any(states[3]["dense/kernel"] != states[2]["dense/kernel"])
    assert ran[2].watched["grad_norm"] == ran[2].scalars["grad_norm"] > 0


def test_a_gradient_that_no_scale_makes_finite_is_seen_and_not_applied():
    states, ran = scaled_steps(lambda step: np.full([4, 3], np.nan), 3, first_scale=2.0)
    assert [state["loss_scale"] for state in states] == [2.0, 1.0, 1.0, 1.0]
    watched = [step.watched["grad_norm"] for step in ran]
    assert watched[0] == 0 and np.isnan(watched[1:]).all()
    np.testing.assert_array_equal(states[3]["dense/kernel"], states[0]["dense/kernel"])


def test_the_scale_doubles_after_many_good_steps(monkeypatch):
    monkeypatch.setattr(optimization.LossScale, "GROWTH_STEPS", 3)
    states, _ = scaled_steps(lambda step: BATCH[0], 7, first_scale=8.0)
    assert [state["loss_scale"] for state in states] == [8, 8, 8, 16, 16, 16, 32, 32]
    assert [state["good_steps"] for state in states] == [0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize("scale_loss", [False, True])
def test_a_compiled_step_is_the_same_step(scale_loss):
    options = {"scale_loss": scale_loss, "num_micro_batches": 2}
    plain, plain_scalars = train(CONFIG, 2, **options)
    compiled, scalars = train(CONFIG, 2, use_xla=True, **options)
    assert_same(compiled, plain, rtol=1e-5, atol=1e-6)
    for one, other in zip(scalars, plain_scalars):
        assert_same(one, other, rtol=1e-5)


@pytest.mark.parametrize("scale_loss", [False, True])
@pytest.mark.parametrize("optimizer", sorted(optimization.OPTIMIZERS))
def test_a_fused_update_is_the_same_update(optimizer, scale_loss):
    config = CONFIG._replace(optimizer=optimizer)
    plain, plain_scalars = train(config, 3, scale_loss=scale_loss)
    fused, scalars = train(config, 3, scale_loss=scale_loss, fused=True)
    assert_same(fused, plain, rtol=1e-5, atol=1e-6)
    for one, other in zip(scalars, plain_scalars):
        assert_same(one, other, rtol=1e-5)


@pytest.mark.parametrize("optimizer", sorted(optimization.OPTIMIZERS))
def test_every_optimizer_lowers_the_loss(optimizer):
    config = CONFIG._replace(optimizer=optimizer, learning_rate=0.05, num_train_steps=60)
    with tf.Graph().as_default(), tf.Session() as session:
        train_op = create_train_op(forward_of(tf.constant(BATCH[0])), config)
        session.run(tf.global_variables_initializer())
        losses = [session.run(train_op).sums["loss"] for _ in range(60)]
        assert losses[-1] < 0.5 * losses[0]


def test_gradients_that_are_not_finite_do_not_pass_unseen():
    for bad in (np.inf, np.nan, 1e30):  # The square of 1e30 overflows float32.
        variables, (scalars,) = train(CONFIG, 1, features=bad * np.ones([4, 3], np.float32))
        assert not np.isfinite(scalars["grad_norm"])
        assert np.all(np.isnan(variables["dense/bias"]))


def deepened_loss(_):
    """Return a loss that one weight enters five times."""
    weight = tf.get_variable("weight", [8, 8])
    hidden = tf.ones([4, 8])
    for _ in range(5):
        hidden = tf.tanh(tf.matmul(hidden, weight))
    return {"loss": tf.reduce_sum(hidden)}


def test_gradients_of_a_shared_weight_are_added_in_one_order():
    """An AddN of more than two inputs would start with the input whose memory it can reuse."""
    metadata = tf.RunMetadata()
    config = devices.session_config(types.SimpleNamespace(strategy="none"))
    with helpers.optimized(), tf.Graph().as_default(), tf.Session(config=config) as session:
        train_op = create_train_op(deepened_loss, CONFIG)
        session.run(tf.global_variables_initializer())
        options = tf.RunOptions(output_partition_graphs=True)
        session.run(train_op.op, options=options, run_metadata=metadata)
    graphs = metadata.partition_graphs
    sums = [len(node.input) for graph in graphs for node in graph.node if node.op == "AddN"]
    assert sums and max(sums) == 2


@pytest.mark.parametrize("config", CONFIGS)
def test_rate_factors_multiply_the_learning_rate_of_their_variables(config):
    """The change in one step is proportional to the rate, whatever LAMB's trust ratio is."""
    start, _ = train(config, 0)
    plain, _ = train(config._replace(num_warmup_steps=0), 1)
    factors = (("dense/k", 0.25), ("dense", 0.0), ("tab", 0.5))
    scaled, _ = train(config._replace(rate_factors=factors), 1)
    for name, factor in (("dense/kernel", 0.25), ("dense/bias", 0.0), ("table", 0.5)):
        change = plain[name] - start[name]
        assert np.any(change)
        np.testing.assert_allclose(scaled[name] - start[name], factor * change, atol=1e-6)
    for name in start:
        if name.endswith(("_m", "_v")):
            np.testing.assert_array_equal(scaled[name], plain[name])
