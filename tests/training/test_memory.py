"""Free memory, the memory of a step, and the micro-batch that fits."""

import pytest

import modeling
from training import memory
from training.memory import FreeMemory, StepMemory

MEGABYTE = 10**6


def micro_batch(batch, free, device="GPU", num_weights=0, bytes_per_example=MEGABYTE):
    step_memory = StepMemory(num_weights, bytes_per_example)
    return memory.largest_micro_batch(batch, step_memory, FreeMemory(device, free))


@pytest.mark.parametrize(
    "batch, free_megabytes, expected",
    [
        (4096, 100, 32),  # 60 MB are usable
        (4096, 27, 16),
        (4096, 26, 8),
        (96, 100, 32),
        (12, 100, 12),  # the whole batch fits
        (100, 100, 4),
        (7, 10, 1),
        (8, 1, 1),  # nothing fits
    ],
)
def test_the_largest_power_of_two_that_divides_and_fits(batch, free_megabytes, expected):
    assert micro_batch(batch, free_megabytes * MEGABYTE) == expected


def test_weights_and_slots_take_their_memory_first(caplog):
    assert micro_batch(4096, 100 * MEGABYTE, num_weights=2 * MEGABYTE) == 16  # 60 - 2 * 20 MB
    with caplog.at_level("WARNING", logger="tensorflow"):
        assert micro_batch(4096, 100 * MEGABYTE, num_weights=3 * MEGABYTE) == 1
    assert "not even one example fits" in caplog.text


def test_a_cpu_is_not_given_more_than_makes_it_faster(caplog):
    with caplog.at_level("INFO", logger="tensorflow"):
        found = micro_batch(4096, 10**15, "CPU", bytes_per_example=32 * 2**20)
    assert found == memory.CPU_ACTIVATION_BYTES // 2**20 // 32
    assert "no faster" in caplog.text and micro_batch(4096, 10**15, "GPU") == 4096


def reader(**found):
    return lambda path: found.get(path.replace("/", "_"))


def test_free_memory_is_the_machines_without_a_limit():
    read = {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   2000 kB\n"}.get
    assert memory.free_host_memory(read) == 2000 * 1024


@pytest.mark.parametrize("group", ["", "/docker/1"])
def test_free_memory_is_the_cgroups_where_it_is_less(group):
    """Of the limit of 1,000,000 bytes 300,000 are used, 100,000 of them by the cache."""
    machine = {"/proc/meminfo": "MemAvailable: 2000 kB\n"}
    folder = "/sys/fs/cgroup" + group
    second = dict(
        machine,
        **{
            "/proc/self/cgroup": "0::/docker/1\n",
            folder + "/memory.max": "1000000\n",
            folder + "/memory.current": "300000\n",
            folder + "/memory.stat": "anon 9\ninactive_file 100000\n",
        },
    )
    assert memory.free_host_memory(second.get) == 800000
    folder = "/sys/fs/cgroup/memory" + group
    first = dict(
        machine,
        **{
            "/proc/self/cgroup": "5:cpu:/\n4:memory:/docker/1\n",
            folder + "/memory.limit_in_bytes": "1000000\n",
            folder + "/memory.usage_in_bytes": "300000\n",
            folder + "/memory.stat": "inactive_file 1\ntotal_inactive_file 100000\n",
        },
    )
    # The group's own line comes first, but the line of the whole tree below it counts.
    assert memory.free_host_memory(first.get) == 800000
    unlimited = dict(second, **{"/sys/fs/cgroup" + group + "/memory.max": "max\n"})
    assert memory.free_host_memory(unlimited.get) == 2000 * 1024


def test_free_memory_of_this_machine_is_plausible():
    assert 10**8 < memory.free_host_memory() < 10**14


def test_recomputation_needs_less_memory_and_predictions_more():
    plain, half = modeling.Execution(), modeling.Execution(dtype="bfloat16")
    config = modeling.AlbertConfig(
        vocab_size=50,
        embedding_size=6,
        hidden_size=8,
        num_attention_heads=2,
        num_hidden_layers=12,
        intermediate_size=16,
    )
    needed = memory.activation_bytes(config, plain, 20)
    recomputed = memory.activation_bytes(config, plain._replace(recompute=True), 20)
    assert recomputed < needed / 4
    assert memory.activation_bytes(config, plain, 20, 5) == needed + 3 * 5 * 50 * 4
    assert memory.activation_bytes(config, half, 20) == needed / 2


def test_a_packed_row_needs_a_mask_and_more_outputs():
    config = modeling.AlbertConfig(vocab_size=50, embedding_size=6, hidden_size=768)
    for dtype in ("float32", "bfloat16"):
        for for_tpu in (False, True):
            execution = modeling.Execution(dtype=dtype, for_tpu=for_tpu)
            plain, packed = [
                memory.activation_bytes(config, execution, 512, 76, chunks) for chunks in (1, 8)
            ]
            assert plain == memory.activation_bytes(config, execution, 512, 76)
            assert 0 < packed - plain < 0.02 * plain


# Config, sequence length, predictions, dtype, recomputation, batch, micro-batch -> GB that the
# compiler of libtpu 0.0.52 needs for the whole step on v3: benchmarks/tpu_compile.py.
COMPILED = {
    ("tiny", 128, 20, "bfloat16", False, 32, 32): 0.253,
    ("tiny", 128, 20, "float32", False, 32, 32): 0.390,
    ("base", 512, 76, "bfloat16", False, 16, 16): 3.016,
    ("base", 512, 76, "float32", False, 16, 16): 5.402,
    ("base", 512, 76, "bfloat16", True, 16, 16): 0.660,
    ("large", 512, 76, "bfloat16", False, 16, 16): 7.960,
    ("large", 512, 76, "float32", False, 16, 16): 14.448,
    ("xxlarge", 512, 76, "float32", False, 16, 4): 12.219,
    ("xxlarge", 512, 76, "bfloat16", False, 16, 8): 12.303,
    ("xxlarge", 512, 76, "bfloat16", True, 16, 16): 6.650,
}


# The same with 8 chunks a row.
COMPILED_PACKED = {
    ("tiny", 128, 20, "bfloat16", False, 32, 32): 0.261,
    ("base", 512, 76, "bfloat16", False, 16, 16): 3.016,
    ("base", 512, 76, "float32", False, 16, 16): 5.409,
    ("base", 512, 76, "bfloat16", True, 16, 16): 0.669,
}
STEPS = [(step, 1, size) for step, size in COMPILED.items()]
STEPS += [(step, 8, size) for step, size in COMPILED_PACKED.items()]


@pytest.mark.parametrize("step, chunks, compiled", STEPS, ids=lambda value: str(value))
def test_the_estimate_for_a_tpu_is_the_compiler_s_or_up_to_15_percent_more(
    step, chunks, compiled, root
):
    name, length, predictions, dtype, recompute, batch, micro_batch = step
    path = root / "albert_config" / "albert_config_{}.json".format(name)
    config = modeling.AlbertConfig.from_json_file(str(path))
    execution = modeling.Execution(dtype, recompute, compiled=True, for_tpu=True)
    needed = StepMemory(
        sum(modeling.count_parameters(config).values()),
        memory.activation_bytes(config, execution, length, predictions, chunks),
    )
    estimate = micro_batch * needed.bytes_per_example + needed.weight_bytes(micro_batch < batch)
    assert 1.0 <= estimate / 1e9 / compiled <= 1.15
    free = FreeMemory("TPU", (16 << 30) - memory.TPU_RESERVED_BYTES)
    assert memory.largest_micro_batch(batch, needed, free) == micro_batch
