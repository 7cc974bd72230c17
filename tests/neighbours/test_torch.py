"""Tensors through shared memory, and batches of a DataLoader whose workers are ours."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

import procession as mp
from deadlines import PATIENCE
from programs import Outcome, run, write


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    ours = importlib.import_module("procession.torch")
    with pytest.raises(ImportError, match=r"pip install 'procession\[torch\]'"):
        ours.enable()


# torch is too big for each environment that runs these tests
HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")

if HAS_TORCH:
    import torch

    import procession.torch


@pytest.fixture
def q():
    procession.torch.enable()
    yield mp.Queue()
    procession.torch.disable()


TENSORS = {
    "small": lambda: torch.ones(3),
    "big": lambda: torch.rand(5000),
    "of no dimension": lambda: torch.ones(()),
    "empty": lambda: torch.empty(0, 3),
    "transposed": lambda: torch.rand(10, 20, 30).transpose(0, 2),
    "channels last": lambda: torch.rand(4, 3, 50, 50).to(memory_format=torch.channels_last),
    "with gaps": lambda: torch.rand(100, 100)[::2, ::3],
    "a part": lambda: torch.rand(9000)[100:8000],
    "repeated": lambda: torch.rand(1).expand(5000),
    "bfloat16": lambda: torch.rand(5000).bfloat16(),
    "complex": lambda: torch.rand(3000, dtype=torch.complex64),
    "conjugated": lambda: torch.rand(3000, dtype=torch.complex64).conj(),
    "bool": lambda: torch.rand(5000) > 0.5,
    "a parameter": lambda: torch.nn.Parameter(torch.rand(5000)),
    "a frozen parameter": lambda: torch.nn.Parameter(torch.rand(5000), requires_grad=False),
    "with gradient": lambda: torch.rand(5000, requires_grad=True),
    "of a model": lambda: torch.nn.Linear(90, 90).weight,
}


@needs_torch
@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_arrives_as_what_it_is(q, kind):
    sent = TENSORS[kind]()
    q.put(sent)
    got = q.get(timeout=PATIENCE)
    assert torch.equal(got, sent)
    assert (type(got), got.dtype, got.shape) == (type(sent), sent.dtype, sent.shape)
    assert (got.requires_grad, got.is_leaf) == (sent.requires_grad, True)
    if kind in ("transposed", "channels last", "a part"):
        assert got.stride() == sent.stride()


@needs_torch
@pytest.mark.parametrize("length", [10, 50_000])
def test_a_tensor_is_a_copy_that_may_be_written_to(q, length):
    sent = torch.zeros(length)
    q.put(sent)
    sent += 1
    got = q.get(timeout=PATIENCE)
    got += 5
    assert not sent.is_shared()
    assert (sent[0], got[0]) == (1, 5)


@needs_torch
def test_a_shared_tensor_stays_shared(q):
    sent = torch.zeros(5000).share_memory_()
    q.put(sent)
    got = q.get(timeout=PATIENCE)
    got += 1
    assert sent[0] == 1


@needs_torch
@pytest.mark.filterwarnings("ignore:Sparse")
def test_what_torch_sends_itself_or_refuses_stays_so(q):
    q.put(torch.eye(5).to_sparse())
    assert q.get(timeout=PATIENCE).is_sparse
    with pytest.raises(RuntimeError, match="non-leaf"):
        q.put(torch.rand(5000, requires_grad=True) * 2)


@needs_torch
def test_disable_gives_tensors_back_to_torch(q):
    procession.torch.disable()
    from procession import reduction

    assert reduction.ForkingPickler._extra_reducers.get(torch.Tensor) is None


LOADER = """
import os, signal, sys, threading, time
import procession as mp, procession.torch, torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

class Data(Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, i):
        if "kill" in sys.argv and i == 40:
            os.kill(os.getpid(), signal.SIGKILL)
        if "interrupt" in sys.argv and i == 40:
            os.kill(os.getppid(), signal.SIGINT)
            time.sleep(PATIENCE)
        return torch.full((3, 224, 224), float(i)), i, {"x": torch.ones(2) * i}

def main(method):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    context = mp.get_context(method)
    loader = DataLoader(
        Data(), batch_size=8, num_workers=2, collate_fn=procession.torch.collate, multiprocessing_context=context
    )
    seen = 0
    try:
        for images, labels, more in loader:
            assert images.shape == (8, 3, 224, 224) and torch.equal(images[:, 0, 0, 0], labels.float())
            assert torch.equal(more["x"][:, 1], labels.float())
            assert not images.is_shared()
            seen += len(images)
    except (RuntimeError, KeyboardInterrupt) as error:
        print(type(error).__name__, "exited unexpectedly" in str(error) or "killed by signal" in str(error))
    else:
        print(seen)

if __name__ == "__main__":
    main(sys.argv[1])
"""


@needs_torch
def test_a_data_loader_yields_its_batches(tmp_path, start_method):
    outcome = run("-W", "ignore", write(tmp_path / "loader.py", LOADER), start_method, cwd=tmp_path)
    assert outcome.well() == "64\n"


@needs_torch
def test_a_killed_worker_of_a_data_loader_is_an_error_and_no_hang(tmp_path):
    outcome = run("-W", "ignore", write(tmp_path / "loader.py", LOADER), "fork", "kill", cwd=tmp_path)
    assert outcome.out == "RuntimeError True\n"


@needs_torch
def test_ctrl_c_ends_a_data_loader(tmp_path):
    outcome = run("-W", "ignore", write(tmp_path / "loader.py", LOADER), "fork", "interrupt", cwd=tmp_path)
    assert outcome.out == "KeyboardInterrupt False\n"


@needs_torch
@pytest.mark.root
def test_a_data_loader_needs_no_room_in_dev_shm(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can make /dev/shm small")
    program = write(tmp_path / "loader.py", LOADER)
    small = "mount -t tmpfs -o size=1m tmpfs /dev/shm && exec"
    command = ["unshare", "-m", "sh", "-c", f"{small} {sys.executable} -W ignore {program} fork"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=3 * PATIENCE, check=False)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"/dev/shm cannot be made small here: {done.stderr}")
    assert Outcome(done.returncode, done.stdout, done.stderr).well() == "64\n"
