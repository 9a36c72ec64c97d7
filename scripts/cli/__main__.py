"""`python -m aot.scripts.cli` is `aot`."""

from aot.scripts.cli.entry import main

main()
