"""Run by test_launch.py under real launchers: calls the launch check alone, and says what it finds."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from accelerate import PartialState, debug_launcher


# By its file: the package around it takes seconds to import.
path = Path(__file__).parents[2] / "hf_htc" / "training" / "launch.py"
spec = importlib.util.spec_from_file_location("launch", path)
launch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(launch)


def check():
    processes = PartialState(cpu="--use_cpu" in sys.argv).num_processes
    try:
        launch.check_launch(look_at_launcher=True)
    except ValueError as error:
        say(f"REFUSED {error}")
    else:
        say(f"ALLOWED {processes}")


def say(line):
    """In one piece: `print` writes the end of the line apart, and the other process's line can come between."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if "--start_another" in sys.argv:  # a program of its own, which nobody launched with several processes
        subprocess.run([sys.executable, __file__], check=True)
    elif "--debug_launcher" in sys.argv:
        sys.argv.append("--use_cpu")
        debug_launcher(check, num_processes=2)
    else:
        check()
