"""Seeds, spans, workers, devices and the polite stop."""

import os
import platform
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncf import runtime
from ncf.errors import ConfigError


def test_seeds_tell_purposes_and_counters_apart() -> None:
    seeds = {
        runtime.seed_of(seed, purpose, *counters)
        for seed in (0, 1)
        for purpose in ("init", "negatives")
        for counters in ((), (0,), (1,), (0, 1), (1, 0))
    }
    assert len(seeds) == 20
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert runtime.seed_of(3, "init", 5) == runtime.seed_of(3, "init", 5)


@given(st.integers(0, 50), st.integers(1, 60))
def test_spans_cover_everything_once(length: int, parts: int) -> None:
    cut = runtime.spans(length, parts)
    assert [n for span in cut for n in range(span.start, span.stop)] == list(range(length))
    sizes = [span.stop - span.start for span in cut]
    assert max(sizes) - min(sizes) <= 1
    assert len(cut) == max(1, min(length, parts))


def test_workers_keep_the_order_and_pass_errors_on() -> None:
    with runtime.workers(3) as pool:
        assert pool.map(lambda n: n * n, list(range(20))) == [n * n for n in range(20)]
        with pytest.raises(ZeroDivisionError):
            pool.map(lambda n: 1 // n, [1, 0])


def test_torch_has_one_thread_while_workers_live() -> None:
    before = torch.get_num_threads()
    with runtime.workers(2):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_unusable_devices_are_named() -> None:
    assert runtime.choose_device("cpu").type == "cpu"
    assert runtime.choose_device("auto").type in ("cpu", "cuda")
    for name in ("abacus", "cuda:99"):
        with pytest.raises(ConfigError, match=f"train.device = '{name}' is not usable here"):
            runtime.choose_device(name)


def test_precision_is_what_is_asked_or_what_the_machine_does_natively(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    assert runtime.choose_precision("bfloat16", cpu) == torch.bfloat16
    assert runtime.choose_precision("float32", cpu) == torch.float32
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(runtime, "_cpu_multiplies_bfloat16", lambda native=native: native)
        assert runtime.choose_precision("auto", cpu) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(number: signal.Signals) -> None:
    before = signal.signal(number, signal.default_int_handler)
    try:
        with runtime.stop_requested() as stop:
            assert not stop()
            os.kill(os.getpid(), number)
            assert stop()
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_no_handlers_away_from_the_main_thread() -> None:
    answers = []

    def run() -> None:
        with runtime.stop_requested() as stop:
            answers.append(stop())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert answers == [False]


def test_freed_memory_is_kept_where_the_c_library_can() -> None:
    code = "import sys; from ncf.runtime import keep_freed_memory; print(keep_freed_memory())"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert answer == str(platform.libc_ver()[0] == "glibc")


def test_free_memory_is_at_most_the_limit_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_CONTAINER_LIMITS", (tmp_path / "absent", tmp_path / "limit"))
    (tmp_path / "limit").write_text("max\n")
    assert runtime.free_memory() > 1 << 20
    (tmp_path / "limit").write_text("4096\n")
    assert runtime.free_memory() == 4096
