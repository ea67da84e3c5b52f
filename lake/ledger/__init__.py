"""An owner's privacy ledger. Modules, each standing on those before it:

schema, migrations   the tables, and how they came to be
guards, rights       what the tables refuse to everybody; what an analyst may do on a server
store                one transaction at a time, and the audit log; two of them are there: sqlite (and board), postgres
copies               copies of frozen values, made quickly
amounts, balances    exact budgets as text; what every block has left
rows, books          claims, and the steps of their life
audit, heads         the audit log as it is read; where the logs of peers' ledgers were last seen to end
replay, proof        the log carried out again, and compared with the tables
mirror, audited      the log in a Delta table; what auditors, peers and mirrors ask
settings, layouts    what the steward chose; which tables are cut into blocks
passes, allocation   who gets budget when
approval             which claims the steward has to agree to
posts, steps         claims that others make, and steps that a server takes in one call
asking               one request for a claim, made by its own process or by another
view                 what it tells who looks
ledger, steward      what jobs and stewards call
"""

from __future__ import annotations

from lake.ledger.balances import BlockState
from lake.ledger.claim import OpenClaim
from lake.ledger.ledger import Ledger
from lake.ledger.steward import Steward
from lake.ledger.store import Head
from lake.ledger.view import Balance

__all__ = ["Balance", "BlockState", "Head", "Ledger", "OpenClaim", "Steward"]
