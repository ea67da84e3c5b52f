"""Imports run one way, dp <- lake <- spark_mpc, without cycles; the public names are pinned."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import dp
import lake
import spark_mpc

ROOT = Path(spark_mpc.__file__).parent.parent
ALLOWED = {"dp": {"dp"}, "lake": {"dp", "lake"}, "spark_mpc": {"dp", "lake", "spark_mpc"}}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ALLOWED
    for path in sorted((ROOT / package).rglob("*.py"))
}

PUBLIC = {
    dp: """ApproxDP Budget BudgetExceeded ContributionBounds DISTRIBUTION ErrorBudget InvalidArgument PrivateFrame
        PrivateQuery PublicFacts PureDP ROW Release RenyiDP SparkMpcError Tuning ZCDP __version__
        chosen_quantile count count_distinct count_units covariance
        histogram max mean median min most_frequent normalize_id private private_keys
        quantiles relative stddev sufficient_statistics sum top_k truncated_share tune unit_sum variance vector_sum
        window""",
    lake: """DPF TIME USERS ApprovalNeeded AtOnce Balance Block BlockState Blocks ByArrivals ByTime ClaimLost
        DPack DisclosureRefused FirstComeFirstServed Head LeaseExpired Ledger LedgerBehind LedgerError
        LedgerMissing OpenClaim Policy RoundRobin Selector SessionError Steward Table VersionUnavailable
        delta_session require_java resolve_jars user_ranges""",
    spark_mpc: """DISJOINT AbortedByPeer CertificateRefused Disagreement FederatedFrame FederatedQuery Federation
        RunAborted SignatureRefused WireError
        FederationError Overlap PeerLost Program ProgramRelease SecretBits SecretInts Study __version__ dp lake
        program secret select""",
}


def imported(path: Path) -> set[str]:
    """The modules that a file names in import statements, wherever they stand in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            # `from package import module` names the module, not the package's own __init__
            found |= {
                f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in MODULES else node.module for a in node.names
            }
    return found


def refused(package: str, names: set[str]) -> set[str]:
    """Imports of our own packages that a package must not make."""
    ours = {"dp", "lake", "spark_mpc", "examples", "benchmarks", "tests"}
    return {name for name in names if name.split(".")[0] in ours - ALLOWED[package]}


def test_packages_import_only_what_stands_below_them() -> None:
    assert len(MODULES) > 40
    for module, path in MODULES.items():
        assert refused(module.split(".")[0], imported(path)) == set(), module


def test_the_check_finds_an_import_that_runs_upwards(tmp_path: Path) -> None:
    module = tmp_path / "upwards.py"
    module.write_text("def late():\n    from lake.ledger import Ledger\n")
    assert refused("dp", imported(module)) == {"lake.ledger"}
    assert refused("spark_mpc", imported(module)) == set()


LAYERS = {
    "dp": ("noise", "accounting", "planning", "execution", "frames"),
    "lake": ("scheduling", "blocks", "ledger"),
    "spark_mpc": ("ring", "protocols", "circuits", "shared", "noise", "sums", "programs"),
}
"""Folders of a package in the order in which they stand on one another."""

FOLDERS = {f"{package}.{layer}" for package, layers in LAYERS.items() for layer in layers} | {
    "spark_mpc.protocols.rep3"
}
MIGRATIONS = "lake.ledger.migrations"
"""Alembic finds these by their file names; nobody imports them."""


@pytest.mark.parametrize("package", LAYERS)
def test_layers_import_downwards(package: str) -> None:
    layers, looked_at = LAYERS[package], 0
    for module, path in MODULES.items():
        own, _, rest = module.partition(".")
        layer = rest.partition(".")[0]
        if own != package or layer not in layers:
            continue
        above = tuple(f"{package}.{name}." for name in layers[layers.index(layer) + 1 :])
        assert not {name for name in imported(path) if name.startswith(above)}, module
        looked_at += 1
    assert looked_at > len(layers)


def test_no_cycles_between_modules() -> None:
    graph = {module: imported(path) & MODULES.keys() for module, path in MODULES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)
    with pytest.raises(CycleError):  # a planted cycle is found
        list(TopologicalSorter({**graph, "dp.errors": {"dp.planning.plan"}}).static_order())


def test_no_module_imports_its_own_packages_inside_a_function() -> None:
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            inner = {
                name.split(".")[0]
                for statement in ast.walk(node)
                if isinstance(statement, ast.Import | ast.ImportFrom)
                for name in ([statement.module or ""] if isinstance(statement, ast.ImportFrom) else [])
            }
            assert not inner & ALLOWED.keys(), f"{module}.{node.name}"


@pytest.mark.parametrize("package", PUBLIC, ids=lambda package: package.__name__)
def test_public_names_are_pinned(package: object) -> None:
    names = PUBLIC[package].split()  # type: ignore[index]
    assert sorted(package.__all__) == sorted(names)  # type: ignore[attr-defined]
    assert all(hasattr(package, name) for name in names)


def test_every_module_says_what_it_exports() -> None:
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        targets = {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
        assert "__all__" in targets or _needs_no_exports(module, path), module


def _needs_no_exports(module: str, path: Path) -> bool:
    named = path.name in ("__main__.py", "_about.py") or module in FOLDERS
    return named or module.startswith(MIGRATIONS)


def test_importing_the_face_starts_no_spark_and_opens_no_port() -> None:
    """`import spark_mpc` is safe before a session is configured: no JVM, no process, no thread."""
    code = (
        "import threading, spark_mpc, pyspark; "
        "assert pyspark.SparkContext._gateway is None; assert threading.active_count() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=ROOT)
