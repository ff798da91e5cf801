"""The launch check: several processes were asked for, and only one trains.

Some launch commands run the program once without a word, or run it several times side by side, each copy training a model of its
own and writing over the other's checkpoints. Both look like a run that works.
"""

import os
from pathlib import Path

from hf_htc.models.errors import HTCError


# How several processes are started so that they train together; {n} processes.
WORKING_LAUNCHES = (
    "Without a GPU: `torchrun --nproc_per_node {n} -m hf_htc train ... --use_cpu`, or "
    "`accelerate launch --multi_gpu --num_processes {n} -m hf_htc train ... --use_cpu` (`--multi_gpu` is right without a GPU "
    "too: it is what starts processes). With GPUs: the same without `--use_cpu`. For one process: `--num_processes 1`."
)

# Where torchrun and the MPI launchers say how many processes there are.
WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def check_launch(num_processes: int | None = None, look_at_launcher: bool = False) -> None:
    """
    Refuses a launch that asked for several processes and gives one.

    * Several copies of the program that do not know of each other: `torchrun` or `accelerate launch --multi_gpu` on a machine
      without a GPU, without `--use_cpu`.
    * With `look_at_launcher`, `accelerate launch` that asks for several (`--num_processes`, or `num_processes` of its config
      file) but starts the program once: with `--cpu`, with `distributed_type: MULTI_CPU` or `'NO'`, or where there is no second
      GPU.

    Nothing is started and no process group is made.

    Args:
        num_processes (`int`, *optional*): Processes that train together. Defaults to what accelerate has set up, or to the
            environment (`WORLD_SIZE`) where it has set up nothing yet.
        look_at_launcher (`bool`, *optional*, defaults to `False`): Whether the command lines of the parent processes are read, as
            `hf-htc train` does. A program of another kind has its own launchers, and its own business with them.

    Raises:
        `ValueError`: with the launch that works.
    """
    if num_processes is None:
        num_processes = _running_together()
    if num_processes > 1:
        return
    copies = _integer(os.environ.get("WORLD_SIZE"))
    if copies > 1 and "LOCAL_RANK" in os.environ:
        raise HTCError(
            f"{copies} processes were started, but they do not train together: there is no GPU for them, and `--use_cpu` is "
            f"missing, so that each would train a model of its own into the same folder. {WORKING_LAUNCHES.format(n=copies)}"
        )
    if not look_at_launcher:
        return
    asked, why = _asked_of_accelerate()
    if asked > 1:
        raise HTCError(
            f"`accelerate launch` was asked for {asked} processes, but {why} it starts the program once. "
            + WORKING_LAUNCHES.format(n=asked)
        )


def leave_group():
    """
    Takes the process group down when all processes have come here; nothing where there is none. A process that ends while the
    group is up can abort on its way out, in a thread of the group, though all its work is done.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def _running_together():
    from accelerate import PartialState

    if PartialState._shared_state:  # asking for an instance would set one up, perhaps on the wrong device
        return PartialState().num_processes
    return max(_integer(os.environ.get(name)) for name in WORLD_SIZES)


def _integer(text):
    try:
        return max(1, int(text))
    except (TypeError, ValueError):
        return 1


def _asked_of_accelerate():
    """The processes that `accelerate launch` was asked for and what makes it start one, or `(1, "")` under no such launch."""
    launcher = _launcher()
    if launcher is None:
        return 1, ""
    arguments, folder = launcher
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    options, _ = launch_command_parser().parse_known_args(arguments)
    if options.tpu:  # its processes are made inside the program
        return 1, ""
    config, name = None, None
    if options.config_file is not None:
        name = options.config_file
        config = load_config_from_file(str(folder / name))
    elif not options.cpu and os.path.isfile(default_config_file):
        name = default_config_file
        config = load_config_from_file(None)
    asked = options.num_processes if options.num_processes is not None else getattr(config, "num_processes", 1)
    if options.cpu:
        why = "with `--cpu`"
    elif config is not None:
        kind = getattr(config.distributed_type, "value", config.distributed_type)
        why = f"with `distributed_type: {kind}` in {Path(name).name}"
    else:
        why = "without `--multi_gpu` and without a second GPU"
    return asked, why


def _launcher():
    """Arguments and working folder of the `accelerate launch` that started this program; `None` if none did.

    Only the nearest Python program above counts: what a launched program starts in its turn was not asked for there. What is no
    Python program (a shell, `mpirun`, `numactl`) is passed over."""
    import psutil

    try:
        for process in psutil.Process().parents():
            command = process.cmdline()
            if not command:
                continue
            arguments = launch_arguments(command)
            if arguments is not None:
                return arguments, Path(process.cwd())
            if Path(command[0]).name.startswith("python"):
                return None
    except psutil.Error:  # a parent that ended meanwhile, or that another user owns
        return None
    return None


def launch_arguments(command):
    """
    What follows `accelerate launch` in a command line.

    Args:
        command (`list[str]`): Of a process; the interpreter, if any, comes first.

    Returns:
        `list[str]`, or `None` for another program.
    """
    for i, word in enumerate(command[:4]):  # python [-u] [-m] accelerate launch ...
        program = Path(word).name.removesuffix(".exe").removesuffix(".py")
        if word == "accelerate.commands.launch" or program == "accelerate-launch" or word.endswith("commands/launch.py"):
            return command[i + 1 :]
        if (word == "accelerate.commands.accelerate_cli" or program in ("accelerate", "accelerate_cli")) and command[
            i + 1 : i + 2
        ] == ["launch"]:
            return command[i + 2 :]
    return None
