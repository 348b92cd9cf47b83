"""Worker processes run all tasks, pass on errors, and end with their parent."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from common import workers


def run(root, code, **options):
    """Run code in a process of its own, without the threads of TensorFlow."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=str(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        check=False,
        **options,
    )


def test_one_worker_is_this_process():
    assert list(workers.run_tasks(lambda task: (task, os.getpid()), [1, 2], 1)) == [
        (1, os.getpid()), (2, os.getpid())
    ]  # fmt: skip


def test_all_tasks_are_done_and_few_are_taken_ahead(root):
    done = run(root, """
        import os
        from common import workers
        taken = []
        def tasks():
            for i in range(50):
                taken.append(i)
                yield i
        results = []
        for result in workers.run_tasks(lambda i: (i * i, os.getpid()), tasks(), 3):
            results.append(result)
            assert len(taken) - len(results) <= 6
        assert sorted(square for square, _ in results) == [i * i for i in range(50)]
        assert os.getpid() not in {pid for _, pid in results}
    """)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_error_of_a_worker_is_raised_here(root):
    done = run(root, """
        from common import workers
        from common.errors import UserError
        def fail(task):
            raise UserError("task {} is wrong".format(task))
        try:
            list(workers.run_tasks(fail, [7], 2))
        except UserError as error:
            print(error)
    """)  # fmt: skip
    assert done.stdout == "task 7 is wrong\n", done.stderr


def test_a_killed_worker_is_a_clear_error(root):
    done = run(root, """
        import os, signal
        from common import workers
        from common.errors import UserError
        try:
            list(workers.run_tasks(lambda _: os.kill(os.getpid(), signal.SIGKILL), range(9), 2))
        except UserError as error:
            print(error)
    """, timeout=60)  # fmt: skip
    assert "a worker process was killed" in done.stdout, done.stderr


def test_workers_end_with_their_parent(root, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent("""
            import os, sys, time
            from common import workers
            def work(task):
                open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
                time.sleep(60)
            list(workers.run_tasks(work, range(2), 2))
        """), str(tmp_path)],
        cwd=str(root),
    )  # fmt: skip
    wait_until(lambda: len(os.listdir(str(tmp_path))) == 2)
    process.kill()
    process.wait()
    pids = list(map(int, os.listdir(str(tmp_path))))
    wait_until(lambda: not any(map(is_running, pids)))


def test_ctrl_c_ends_the_workers_without_output(root, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent("""
            import os, signal, sys, time
            from common import workers
            signal.signal(signal.SIGINT, signal.default_int_handler)  # even under nohup
            def work(task):
                open(os.path.join(sys.argv[1], str(task)), "w").close()
                time.sleep(0.5)
            try:
                list(workers.run_tasks(work, range(100), 2))
            except KeyboardInterrupt:
                print("interrupted")
        """), str(tmp_path)],
        cwd=str(root), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    wait_until(lambda: len(os.listdir(str(tmp_path))) == 2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=30)[0] == b"interrupted\n"
    assert len(os.listdir(str(tmp_path))) <= 6


def wait_until(condition):
    deadline = time.time() + 30
    while not condition():
        assert time.time() < deadline
        time.sleep(0.05)


def is_running(pid):
    try:
        with open("/proc/{}/stat".format(pid)) as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("num_workers", [1, 2])
def test_no_tasks_no_results(num_workers):
    assert list(workers.run_tasks(str, [], num_workers)) == []
