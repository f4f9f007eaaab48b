"""``python -m huayu`` is the ``huayu`` command."""

from huayu.cli.main import main

if __name__ == "__main__":
    main()
