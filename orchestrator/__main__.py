"""`python -m orchestrator`: the same as `circuit-sweep`."""

from orchestrator.cli.main import main

if __name__ == "__main__":
    main()
