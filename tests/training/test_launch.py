"""Launches that ask for several processes and give one are refused; real launch commands, all started at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate import PartialState
from torch import distributed

from hf_htc.training import launch
from hf_htc.training.launch import check_launch, launch_arguments, leave_group


SCRIPT = str(Path(__file__).parent / "run_launch_check.py")
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch"]
ACCELERATE_SCRIPT = [sys.executable, str(Path(sys.executable).with_name("accelerate")), "launch"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]

CONFIGS = {
    "multi_cpu": "distributed_type: MULTI_CPU\nnum_processes: 2\nuse_cpu: true\n",
    "no": "distributed_type: 'NO'\nnum_processes: 2\n",
}

# name: (command, config file in the user's home or None). The tests of the loops launch two processes in the two right ways.
LAUNCHES = {
    "accelerate --cpu": ([*ACCELERATE_SCRIPT, "--cpu", "--num-processes=2", SCRIPT, "--use_cpu"], None),
    "config MULTI_CPU": ([*ACCELERATE, "--config_file", "multi_cpu.yaml", SCRIPT], None),
    "default config NO, a shell between": ([*ACCELERATE, "--no_python", "bash", "wrapper.sh"], "no"),
    "accelerate without a config": ([*ACCELERATE, "--num_processes", "2", SCRIPT, "--use_cpu"], None),
    "copies of torchrun": ([*TORCHRUN, SCRIPT], None),
    "right: one process": ([*ACCELERATE, "--num_processes", "1", SCRIPT], "no"),
    "right: a program started by a launched one": (
        [*ACCELERATE, "--cpu", "--num_processes", "2", SCRIPT, "--start_another"],
        None,
    ),
    "right: no launcher": ([sys.executable, SCRIPT], "no"),
    "right: debug_launcher": ([sys.executable, SCRIPT, "--debug_launcher"], None),
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("launches")
    for name, text in CONFIGS.items():
        (folder / f"{name}.yaml").write_text(text)
        (folder / f"home-{name}" / "accelerate").mkdir(parents=True)
        (folder / f"home-{name}" / "accelerate" / "default_config.yaml").write_text(text)
    (folder / "wrapper.sh").write_text(f"'{sys.executable}' '{SCRIPT}'\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment = {key: value for key, value in environment.items() if not key.startswith(("ACCELERATE_", "WORLD_SIZE", "LOCAL"))}
    running = {}
    for name, (command, home) in LAUNCHES.items():
        own = {**environment, "HF_HOME": str(folder / (f"home-{home}" if home else "home"))}
        running[name] = subprocess.Popen(
            command, cwd=folder, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )  # fmt: skip
    return {name: process.communicate(timeout=300)[0] for name, process in running.items()}


@pytest.mark.parametrize("name", LAUNCHES)
def test_launches(name, outputs):
    lines = [line for line in outputs[name].splitlines() if line.startswith(("REFUSED", "ALLOWED"))]
    assert lines, outputs[name][-3000:]
    if name.startswith("right"):
        assert lines == (["ALLOWED 2"] * 2 if name == "right: debug_launcher" else ["ALLOWED 1"]), lines
        return
    assert len(lines) == (2 if name == "copies of torchrun" else 1)
    for line in lines:
        assert line.startswith("REFUSED")
        assert "torchrun --nproc_per_node 2 -m hf_htc train" in line and "--multi_gpu --num_processes 2" in line
    reasons = {
        "accelerate --cpu": "asked for 2 processes, but with `--cpu` it starts the program once",
        "config MULTI_CPU": "with `distributed_type: MULTI_CPU` in multi_cpu.yaml",
        "default config NO, a shell between": "with `distributed_type: NO` in default_config.yaml",
        "accelerate without a config": "without `--multi_gpu` and without a second GPU",
        "copies of torchrun": "2 processes were started, but they do not train together: there is no GPU for them, and",
    }
    assert reasons[name] in lines[0]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (["/usr/bin/python3.11", "/usr/bin/accelerate", "launch", "--cpu", "x.py"], ["--cpu", "x.py"]),
        (["/usr/bin/accelerate-launch", "--cpu", "x.py"], ["--cpu", "x.py"]),
        (["python", "-u", "-m", "accelerate.commands.launch", "x.py"], ["x.py"]),
        (["python", "-m", "accelerate.commands.accelerate_cli", "launch", "x.py"], ["x.py"]),
        (["python", "/lib/accelerate/commands/launch.py", "x.py"], ["x.py"]),
        (["python", "/usr/bin/accelerate", "test"], None),
        (["python", "/usr/bin/torchrun", "--nproc_per_node", "2", "accelerate", "launch"], None),
        (["python", "-m", "pytest", "tests/accelerate"], None),
        (["bash", "-c", "accelerate launch x.py"], None),
        (["python"], None),
    ],
)
def test_the_launcher_is_known_by_its_command(command, arguments):
    assert launch_arguments(command) == arguments


def test_only_the_command_line_looks_at_its_parents(monkeypatch):
    monkeypatch.setattr(launch, "_launcher", lambda: (["--cpu", "--num_processes", "3", "x.py"], Path()))
    check_launch(num_processes=1)  # what `build_trainer` and the loop call
    with pytest.raises(ValueError, match="`accelerate launch` was asked for 3 processes, but with `--cpu` it starts"):
        check_launch(num_processes=1, look_at_launcher=True)


def test_copies_are_told_from_processes_that_train_together(monkeypatch):
    PartialState(cpu=True)
    monkeypatch.setenv("WORLD_SIZE", "4")
    check_launch()  # set by a cluster for its machines: no launcher on this one
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ValueError, match="4 processes were started, but they do not train together"):
        check_launch()
    check_launch(num_processes=4)
    monkeypatch.setattr(PartialState, "_shared_state", {})
    check_launch()  # before anything is set up, the launcher is believed
    monkeypatch.setenv("WORLD_SIZE", "many")
    check_launch()


def test_the_process_group_is_left():
    leave_group()  # there is none
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    leave_group()
    assert not distributed.is_initialized()
