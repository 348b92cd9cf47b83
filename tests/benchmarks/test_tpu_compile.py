"""The step of a TPU: the input of XLA and, if the TPU compiler is installed, its output."""

import json
import os
import subprocess
import sys

import helpers
import pytest

from benchmarks import tpu_compile

HIDDEN, HEADS, LENGTH, BATCH = 16, 2, 16, 4
U64, PHILOX = 9, 0xD2511F53  # xla.PrimitiveType; a constant of Philox (Salmon et al., 2011)


def words_of(folder, *more):
    helpers.write_config(folder, 60, LENGTH, num_hidden_layers=1)
    sizes = ["--batch_size=4", "--max_seq_length=16", "--max_predictions_per_seq=4"]
    return ["--config", str(folder / "config.json")] + sizes + list(more)


def lowered(folder, *more):
    """Return those instructions of the small model's step that the outputs of the step need."""
    args = tpu_compile.parse_arguments(words_of(folder, *more))
    module = tpu_compile.lower(*tpu_compile.make_step(args), replicas=args.replicas)
    computations = {computation.id: computation for computation in module.computations}
    found, todo, seen = [], [module.entry_computation_id], set()
    while todo:
        computation = computations[todo.pop()]
        by_id = {instruction.id: instruction for instruction in computation.instructions}
        needed = [computation.root_id]
        while needed:
            number = needed.pop()
            if (computation.id, number) not in seen:
                seen.add((computation.id, number))
                found.append(by_id[number])
                needed += by_id[number].operand_ids
                todo += by_id[number].called_computation_ids
    return found


def count(instructions, opcode):
    return sum(instruction.opcode == opcode for instruction in instructions)


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    return lowered(tmp_path_factory.mktemp("step"))


@pytest.fixture(scope="module")
def step_in_parts(tmp_path_factory):
    """The step of one of eight cores, in two micro-batches, with recomputation."""
    options = ["--micro_batch_size=2", "--recompute", "--replicas=8"]
    return lowered(tmp_path_factory.mktemp("parts"), *options)


@pytest.fixture(scope="module")
def packed_step(tmp_path_factory):
    return lowered(tmp_path_factory.mktemp("packed"), "--chunks_per_row=3")


def test_all_shapes_are_static(step, step_in_parts, packed_step):
    for x in step + step_in_parts + packed_step:
        assert not any(x.shape.is_dynamic_dimension), x.name


def test_dropout_is_a_hash_of_32_bits(step):
    assert not [x.name for x in step if x.opcode.startswith("rng") or x.opcode == "while"]
    signed = {number & 0xFFFFFFFF for x in step for number in x.literal.s32s}
    unsigned = {number for x in step for number in x.literal.u32s}
    assert 0x85EBCA6B in signed and PHILOX not in signed | unsigned
    assert not [x.name for x in step if x.shape.element_type == U64]


def test_no_activation_is_split_into_heads_by_a_reshape(step):
    """A reshape to heads copies every tile, but XLA chooses the layout of a product by heads."""
    shape_of = {x.id: list(x.shape.dimensions) for x in step}
    rows = [[BATCH * LENGTH, HIDDEN], [BATCH, LENGTH, HIDDEN], [BATCH * LENGTH, 3 * HIDDEN]]
    for x in step:
        if x.opcode == "reshape" and shape_of[x.operand_ids[0]] in rows:
            assert shape_of[x.id][-2:] != [HEADS, HIDDEN // HEADS], x.name


def test_packed_rows_take_their_positions_from_a_product(step, packed_step):
    assert count(packed_step, "dot") == count(step, "dot") + 2  # the product and its gradient
    assert count(packed_step, "scatter") == count(step, "scatter")
    masks = [x for x in packed_step if list(x.shape.dimensions)[-3:] == [BATCH, LENGTH, LENGTH]]
    assert any(x.opcode == "compare" for x in masks)


def test_micro_batches_are_one_loop_with_one_copy_of_the_model(step, step_in_parts):
    assert count(step_in_parts, "while") == 1
    logits = [4 * BATCH, 60]  # the largest product of the model; only the forward pass has it
    assert [list(x.shape.dimensions) for x in step if x.opcode == "dot"].count(logits) == 1
    logits[0] //= 2
    assert [list(x.shape.dimensions) for x in step_in_parts if x.opcode == "dot"].count(logits) == 1


def test_recomputation_is_behind_a_barrier(step, step_in_parts):
    assert count(step_in_parts, "opt-barrier") == 2 and count(step, "opt-barrier") == 0
    assert count(step_in_parts, "dot") > count(step, "dot")


def test_cores_sum_their_gradients(step, step_in_parts):
    sums = [x for x in step_in_parts if x.opcode == "all-reduce"]
    assert len(sums) > 20 and count(step, "all-reduce") == 0
    assert {tuple(x.replica_groups[0].replica_ids) for x in sums} == {tuple(range(8))}


@pytest.mark.skipif(not os.path.exists(tpu_compile.PYTHON), reason="no .venv-tpu-compile")
def test_the_compiler_of_tpus_takes_the_step(tmp_path, root):
    def compiled(*more):
        command = [sys.executable, str(root / "benchmarks" / "tpu_compile.py")]
        output = subprocess.check_output(command + words_of(tmp_path, *more))
        return json.loads(output.decode().splitlines()[-1])

    plain, again, packed = compiled(), compiled("--recompute"), compiled("--chunks_per_row=3")
    assert again["tflop"] > plain["tflop"] > 0 and plain["mcycles"] > 0 and not plain["random"]
    assert packed["mcycles"] > 0 and not packed["random"]
    assert compiled("--replicas=8")["mcycles"] > plain["mcycles"]
