"""`python -m ditto_hub` is `ditto-hub`."""

from ditto_hub.cli import main

main(prog_name="ditto-hub")
