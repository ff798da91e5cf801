"""The command line `hf-htc`: one module a command, heavy imports inside the command."""
