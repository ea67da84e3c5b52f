"""spark-mpc: joint, differentially private statistics over several Delta lakes, on Spark itself.

import spark_mpc as mpc
from spark_mpc import dp, lake

with mpc.Federation.from_toml("federation.toml", me="hospital_a").session(spark, ledger=ledger) as study:
    table = lake.Table.forPath(spark, "/lake/visits", unit="patient_id", null_units="drop")
    visits = study.contribute("visits", table)
    query = visits.groupBy("ward", keys=wards, max_groups=4, max_rows=4).agg(dp.count(), dp.sum("cost", 0, 5000))
    release = query.release(epsilon="1")
"""

from spark_mpc import _guard as _guard  # first: it refuses a foreign dp or lake before any of its code runs

# isort: split
import dp
import lake
from dp import __version__
from spark_mpc.errors import (
    AbortedByPeer,
    CertificateRefused,
    Disagreement,
    FederationError,
    PeerLost,
    RunAborted,
    SignatureRefused,
    WireError,
)
from spark_mpc.federated_frame import DISJOINT, FederatedFrame, FederatedQuery, Overlap
from spark_mpc.federation import Federation, Study
from spark_mpc.programs.expressions import SecretBits, SecretInts, select
from spark_mpc.programs.inputs import secret
from spark_mpc.programs.program import Program, program
from spark_mpc.programs.release import ProgramRelease

__all__ = [
    "DISJOINT",
    "AbortedByPeer",
    "CertificateRefused",
    "Disagreement",
    "FederatedFrame",
    "FederatedQuery",
    "Federation",
    "FederationError",
    "Overlap",
    "PeerLost",
    "Program",
    "ProgramRelease",
    "RunAborted",
    "SecretBits",
    "SecretInts",
    "SignatureRefused",
    "Study",
    "WireError",
    "__version__",
    "dp",
    "lake",
    "program",
    "secret",
    "select",
]
