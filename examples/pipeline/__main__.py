"""Run the example; `--help` says how."""

from .job import main

if __name__ == "__main__":
    main()
