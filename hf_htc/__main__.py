"""`python -m hf_htc` is `hf-htc`."""

from hf_htc.cli.main import main


if __name__ == "__main__":
    main()
