"""How the tables of a ledger came to be, version by version; `python -m alembic` is not needed to run them."""
