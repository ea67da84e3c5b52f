"""The faults, and who notices each."""

from __future__ import annotations

from tests.mutants.runner import Mutant

__all__ = ["MUTANTS", "QUICK"]

MUTANTS: tuple[Mutant, ...] = (
    Mutant('half the Laplace noise', (12,), 'dp/noise/mechanisms.py', 'return discrete_laplace(self.scale, size, random)', 'return discrete_laplace(self.scale / 2, size, random)', ('tests/dp/noise/test_mechanisms.py',)),
    Mutant('Gaussian noise 15% too small', (12,), 'dp/noise/mechanisms.py', 'return discrete_gaussian(self.variance, size, random)', 'return discrete_gaussian(self.variance * Fraction(7225, 10000), size, random)', ('tests/statistical/test_coalitions.py',)),
    Mutant('rounded floating-point noise', (1,), 'dp/noise/mechanisms.py', 'return discrete_laplace(self.scale, size, random)', 'return np.rint(np.random.default_rng().laplace(0, float(self.scale), size)).astype(np.int64)', ('tests/statistical/test_coalitions.py',)),
    Mutant('zero has two signs', (1, 12), 'dp/noise/samplers.py', 'one_zero = ~negative | (magnitude != 0)', 'one_zero = ~negative | (magnitude >= 0)', ('tests/statistical/test_samplers.py',)),
    Mutant('a coin of a float probability', (1, 10), 'dp/noise/samplers.py', 'result[alive[~hit]] = trial % 2 == 1', 'result[alive[~hit]] = trial % 2 == 1 or trial > 2', ('tests/statistical/test_samplers.py',)),
    Mutant('noise for one measure of two', (12,), 'dp/planning/plan.py', 'for part, first, last in self._overlapping(start, stop):', 'for part, first, last in list(self._overlapping(start, stop))[:1]:', ('tests/dp/planning/test_plan.py',)),
    Mutant('entropy is kept', (11,), 'dp/noise/entropy.py', '        return os.urandom(count)\n', '        return os_random.__dict__.setdefault(str(count), os.urandom(count))\n', ('tests/dp/noise/test_entropy.py',)),
    Mutant('a generator seeded by process', (11,), 'dp/noise/entropy.py', '        return os.urandom(count)\n', "        return __import__('random').Random(os.getppid()).randbytes(count)\n", ('tests/dp/noise/test_entropy.py',)),
    Mutant('modulo without rejection', (1,), 'dp/noise/entropy.py', 'if bool((rejected := drawn > greatest).any()):', 'if bool((rejected := drawn > greatest).any()) and bound < 0:', ('tests/dp/noise/test_entropy.py',)),
    Mutant('Laplace scale rounded down', (10,), 'dp/accounting/calibration.py', 'return math.ceil(scale / unit) * unit', 'return math.floor(scale / unit) * unit', ('tests/dp/accounting/test_calibration.py',)),
    Mutant('half the Gaussian variance', (12,), 'dp/accounting/calibration.py', 'return l2_sensitivity_squared / (2 * rho)', 'return l2_sensitivity_squared / (4 * rho)', ('tests/dp/accounting/test_calibration.py',)),
    Mutant('permute-and-flip at an eighth', (10,), 'dp/noise/choice.py', 'return self.epsilon**2 / 2\n', 'return self.epsilon**2 / 8\n', ('tests/dp/noise/test_choice.py',)),
    Mutant('utilities not counted from the best', (10,), 'dp/noise/choice.py', 'best = int(scores.values.max())', 'best = max(int(scores.values.max()), 0)', ('tests/dp/noise/test_choice.py',)),
    Mutant("the selection's delta not composed", (9,), 'dp/planning/plan.py', '(PureEvent(self.selection.epsilon), DeltaEvent(self.selection.delta))', '(PureEvent(self.selection.epsilon),)', ('tests/dp/planning/test_keys.py',)),
    Mutant("a colluder's noise counts", (12,), 'dp/planning/parts.py', '"honest_parties": noise.honest, "cells": cells}', '"honest_parties": noise.copies, "cells": cells}', ('tests/statistical/test_coalitions.py',)),
    Mutant('overlap of parties ignored', (12, 17), 'dp/planning/plan.py', 'units_together = parties_per_unit * query.facts.units_together', 'units_together = query.facts.units_together', ('tests/dp/planning/test_plan.py',)),
    Mutant('group size ignored', (12, 17), 'dp/planning/facts.py', 'return self.group_size * self.rows_per_unit', 'return self.rows_per_unit', ('tests/dp/planning/test_units.py',)),
    Mutant('rows that became several ignored', (12, 17), 'dp/planning/facts.py', 'return self.group_size * self.rows_per_unit', 'return self.group_size', ('tests/dp/planning/test_units.py',)),
    Mutant('L0 left out of the L1 sensitivity', (7, 12), 'dp/planning/measures.py', 'return Sensitivity(l1=total, l2_squared=min(', 'return Sensitivity(l1=per_cell, l2_squared=min(', ('tests/dp/planning/test_measures.py',)),
    Mutant('Linf left out of the L2 sensitivity', (7, 12), 'dp/planning/measures.py', 'l2_squared=min(bounds.groups * per_cell**2, total**2))', 'l2_squared=min(bounds.groups * per_cell, total**2))', ('tests/dp/planning/test_measures.py',)),
    Mutant('a product of bounds wraps', (7,), 'dp/planning/bounds.py', 'return _first_given(self.max_total_rows, self.groups * self.rows_per_group)', 'return _first_given(self.max_total_rows, self.groups * self.rows_per_group % 2**32)', ('tests/dp/planning/test_bounds.py',)),
    Mutant('a missing bound means no noise', (7,), 'dp/planning/bounds.py', 'raise InvalidArgument("max_rows", None, remedy)', 'return 0', ('tests/dp/planning/test_bounds.py',)),
    Mutant('squares counted from zero', (8, 12), 'dp/planning/sum_measures.py', 'return (RowSum(offset, stride, (name, name), self.middle),)', 'return (RowSum(offset, stride, (name, name), 0),)', ('tests/dp/planning/test_measures.py',)),
    Mutant("a tree's height forgotten", (12,), 'dp/planning/bin_measures.py', 'return Sensitivity(height * level.l1, height * level.l2_squared)', 'return Sensitivity(level.l1, level.l2_squared)', ('tests/attacks/test_tree_heights.py',)),
    Mutant('units in one group only', (12,), 'dp/planning/measures.py', '        return Sensitivity(l1=bounds.groups, l2_squared=bounds.groups)\n\n    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:\n        return (UnitCount(', '        return Sensitivity(l1=1, l2_squared=1)\n\n    def rules(self, offset: int, stride: int, names: Names) -> tuple[CellRule, ...]:\n        return (UnitCount(', ('tests/dp/planning/test_measures.py',)),
    Mutant('an L2 bound taken for an L1 bound', (7, 12), 'dp/planning/sum_measures.py', '(math.isqrt(self.width * self.bound**2 - 1) + 1 if self.bound else 0, self.bound**2)', '(self.bound, self.bound**2)', ('tests/dp/planning/test_measures.py',)),
    Mutant('the share of truncated units moves by one', (12,), 'dp/planning/measures.py', 'return Sensitivity(l1=2, l2_squared=2)', 'return Sensitivity(l1=1, l2_squared=1)', ('tests/dp/planning/test_measures.py',)),
    Mutant('other groups apart', (12, 16), 'dp/planning/plan.py', 'sensitivity = Sensitivity(sensitivity.l1, sensitivity.l1**2)', 'sensitivity = Sensitivity(sensitivity.l1, sensitivity.l2_squared)', ('tests/dp/planning/test_keys.py',)),
    Mutant('totals for free', (12,), 'dp/planning/rollup.py', 'return Sensitivity((1 + above) * finest.l1, finest.l2_squared + above * finest.l1**2)', 'return finest', ('tests/statistical/test_stochastic_tester.py::test_a_release_costs_what_was_paid_and_less_noise_is_noticed[count | rollup | epsilon]',)),
    Mutant('no proof of range', (3,), 'dp/planning/plan.py', '    _prove_range(best)\n', '', ('tests/dp/planning/test_plan.py',)),
    Mutant('sums in doubles', (2, 3), 'dp/execution/partials.py', 'np.add.at(sums, keys, amounts)  #', 'sums = np.bincount(keys, weights=amounts).astype(np.int64)  #', ('tests/dp/execution/test_partials.py', 'tests/dp/execution/test_survivors.py')),
    Mutant("Spark's own sum", (3,), 'dp/execution/bounding.py', 'return halves.select(*by, joined.alias("word"))', 'return partials.groupBy(*by).agg(F.sum(word).alias("word"))', ('tests/dp/execution/test_bounding.py',)),
    Mutant('a total that wraps is not clamped', (3,), 'dp/planning/cells.py', '        totals[rough > 2.0**62] = self.upper\n', '', ('tests/attacks/test_aggregates.py::test_a_unit_whose_total_wraps_is_clamped_all_the_same',)),
    Mutant('no clamp before rounding', (4, 7), 'dp/planning/fixed_point.py', 'clamped = F.greatest(F.least(real, reach[1]), reach[0])', 'clamped = real', ('tests/dp/planning/test_fixed_point.py',)),
    Mutant('no clamp after rounding', (3, 7), 'dp/planning/fixed_point.py', 'inside = F.greatest(F.least(rounded.cast("long"), high), low) - F', 'inside = rounded.cast("long") - F', ('tests/dp/planning/test_fixed_point.py',)),
    Mutant('NULL becomes a bound', (4,), 'dp/planning/fixed_point.py', 'return F.when(value.isNull() | rounded.isNull(), F.lit(None)).otherwise(inside).cast("long")', 'return inside', ('tests/dp/planning/test_fixed_point.py',)),
    Mutant('NaN becomes a bound', (4,), 'dp/planning/fixed_point.py', 'rounded = F.when(F.isnan(real), F.lit(None)).otherwise(F.rint(clamped * F.lit(scale)))', 'rounded = F.rint(clamped * F.lit(scale))', ('tests/dp/planning/test_fixed_point.py',)),
    Mutant('NaN counts in a mean', (4,), 'dp/planning/inputs.py', 'return value.isNull() if integral else value.isNull() | F.isnan(value.cast("double"))', 'return value.isNull()', ('tests/attacks/test_numbers.py',)),
    Mutant('NaN is a value of its own', (4, 18), 'dp/planning/inputs.py', 'F.when(number.isNotNull() & ~F.isnan(number), ', 'F.when(number.isNotNull(), ', ('tests/attacks/test_minus_zero.py',)),
    Mutant('columns narrowed to integers', (6,), 'dp/execution/bounding.py', 'F.col(quoted(name)).cast("long").alias(f"m{index}")', 'F.col(quoted(name)).cast("int").cast("long").alias(f"m{index}")', ('tests/dp/execution/test_bounding.py',)),
    Mutant("Spark's own addition", (5,), 'dp/frames/scalars.py', '{exp.Add: F.try_add,', '{exp.Add: lambda a, b: a + b,', ('tests/attacks/test_arithmetic.py',)),
    Mutant("Spark's own negation", (3, 5), 'dp/frames/total.py', 'return F.negative(column) if kind == DOUBLE else F.try_subtract(F.lit(0).cast(LONG), column)', 'return F.negative(column)', ('tests/attacks/test_arithmetic.py',)),
    Mutant('the floor of NaN is zero', (4,), 'dp/frames/total.py', 'return F.when(inside, F.ceil(column) if up else F.floor(column))', 'return F.ceil(column) if up else F.floor(column)', ('tests/attacks/test_expressions.py::test_missing_values_stay_missing',)),
    Mutant('an expression that changes by the run', (15,), 'dp/frames/functions.py', '        exp.IsNan: _of(', '        exp.Rand: Signature({}, DOUBLE, F.rand),\n        exp.IsNan: _of(', ('tests/dp/frames/test_expressions.py',)),
    Mutant('L0 skipped', (12,), 'dp/execution/survivors.py', 'if bounds.max_groups is not None:', 'if bounds.max_groups is None:', ('tests/dp/execution/test_survivors.py',)),
    Mutant('Linf skipped', (12,), 'dp/execution/survivors.py', 'elif bounds.max_rows is not None:', 'elif bounds.max_rows is None:', ('tests/dp/execution/test_survivors.py',)),
    Mutant('L1 skipped', (12,), 'dp/execution/survivors.py', 'if bounds.max_total_rows is not None:', 'if bounds.max_total_rows is None and bounds.max_rows is None:', ('tests/dp/execution/test_survivors.py',)),
    Mutant('one more than the bound', (12,), 'dp/execution/survivors.py', 'np.not_equal(run[limit:], run[:-limit], out=first[limit:])', 'np.not_equal(run[limit + 1 :], run[: -limit - 1], out=first[limit + 1 :])', ('tests/dp/execution/test_survivors.py',)),
    Mutant('units of one hash are one', (17,), 'dp/execution/survivors.py', 'mistaken = (same_prefix & _starts(unit)) |', 'mistaken = (same_prefix & ~same_prefix) |', ('tests/dp/execution/test_survivors.py',)),
    Mutant('rows chosen by arrival', (14, 15), 'dp/execution/survivors.py', 'lot = mix64(content + _rank_in_run(equal_rows).view(np.uint64) * _GOLDEN)', 'lot = mix64(rows[unsure][order].view(np.uint64))', ('tests/dp/execution/test_survivors.py',)),
    Mutant("a unit's total unclamped", (3, 12), 'dp/planning/cells.py', 'yield self._cells(alive.run_group), np.clip(totals, self.lower, self.upper)', 'yield self._cells(alive.run_group), totals', ('tests/dp/execution/test_partials.py',)),
    Mutant('a bin of another group', (12, 16), 'dp/planning/cells.py', 'inside = (column.values >= 0) & (column.values < self.bins * self.merged)', 'inside = np.ones(len(column.values), np.bool_)', ('tests/dp/execution/test_partials.py',)),
    Mutant('a coordinate unclamped', (7, 12), 'dp/planning/cells.py', 'return np.clip(vectors, -self.bound, self.bound)', 'return vectors', ('tests/dp/planning/test_cells.py',)),
    Mutant('a long vector stays long', (7, 12), 'dp/planning/cells.py', '        vectors[:, self._exceeds(vectors)] = 0\n        return vectors', '        return vectors + (vectors > 0)', ('tests/dp/planning/test_cells.py',)),
    Mutant('different values counted by row', (18,), 'dp/execution/partials.py', 'first[1:] = (cells[1:] != cells[:-1]) | (items[1:] != items[:-1])', 'first[1:] = True', ('tests/dp/execution/test_partials.py',)),
    Mutant('values of everybody counted once a unit', (18,), 'dp/planning/measures.py', '        return _rows_sensitivity(bounds, 1)\n\n    @property\n    def inputs(self) -> tuple[Input, ...]:\n        return (inputs.Item(self.source, self.real),)', '        return Sensitivity(1, 1)\n\n    @property\n    def inputs(self) -> tuple[Input, ...]:\n        return (inputs.Item(self.source, self.real),)', ('tests/dp/planning/test_measures.py',)),
    Mutant('one salt for all releases', (14, 15), 'dp/execution/local.py', 'salt=secrets.randbits(63),', 'salt=secrets.randbits(0),', ('tests/attacks/test_salts.py',)),
    Mutant('one salt for all private keys', (14, 15), 'dp/execution/candidates.py', 'secrets.randbits(63)', 'secrets.randbits(0)', ('tests/attacks/test_salts.py',)),
    Mutant('threshold minus one', (9, 12), 'dp/noise/thresholds.py', 'return point + self.group_size', 'return point + self.group_size - 1', ('tests/statistical/test_selection.py',)),
    Mutant('the mass at tau dropped', (9,), 'dp/noise/thresholds.py', 'return laplace_tail_above(self.noise.scale, point)', 'return laplace_tail_above(self.noise.scale, point + 1)', ('tests/statistical/test_selection.py',)),
    Mutant('the threshold of another family', (9,), 'dp/noise/thresholds.py', 'return gaussian_tail_above(self.noise.variance, point)', 'return laplace_tail_above(Fraction(1, 2), point)', ('tests/statistical/test_selection.py',)),
    Mutant("the noise's part of delta forgotten", (9,), 'dp/noise/thresholds.py', 'return self.delta - zcdp_delta_above(self.rho, self.epsilon)', 'return self.delta', ('tests/dp/noise/test_selection.py',)),
    Mutant('delta for each group', (9, 12), 'dp/noise/selection.py', 'return math.floor(self.delta / (self.max_groups * self._joining) * _ONE)', 'return math.floor(self.delta / self._joining * _ONE)', ('tests/dp/noise/test_selection.py',)),
    Mutant('empty groups named', (9, 16), 'dp/noise/thresholds.py', 'present = np.flatnonzero(seen > 0)', 'present = np.flatnonzero(seen >= 0)', ('tests/dp/noise/test_selection.py',)),
    Mutant('the pre-threshold ignored', (9,), 'dp/noise/selection.py', 'return np.maximum(counts, self.pre_threshold - 1) - np.int64(self.pre_threshold - 1)', 'return counts', ('tests/dp/noise/test_selection.py',)),
    Mutant('noise drawn again for every action', (13,), 'dp/execution/local.py', '        return Vector(self.length, blocks=write_blocks(', '        return self if directory else Vector(self.length, blocks=write_blocks(', ('tests/attacks/test_renoising.py',)),
    Mutant('a missing group without noise', (16,), 'dp/execution/local.py', 'return words + self.plan.draw_noise(start, stop, self.random)', 'return np.where(words == 0, words, words + self.plan.draw_noise(start, stop, self.random))', ('tests/attacks/test_renoising.py',)),
    Mutant('rows outside the key set counted', (16,), 'dp/execution/local.py', 'return rows.join(F.broadcast(typed), list(names), "inner").drop(*names)', 'return rows.join(F.broadcast(typed), list(names), "left").withColumn(GROUP, F.coalesce(GROUP, F.lit(0))).drop(*names)', ('tests/attacks/test_groups_and_units.py',)),
    Mutant('rows of no group counted', (16,), 'dp/execution/bounding.py', 'present = F.col(quoted(group)) >= F.lit(0)', 'present = F.lit(True)', ('tests/dp/execution/test_bounding.py',)),
    Mutant('two columns run together', (17,), 'dp/execution/bounding.py', 'F.concat(F.octet_length(part).cast("string"), F.lit(":")).cast("binary")', 'F.lit("").cast("binary")', ('tests/attacks/test_groups_and_units.py',)),
    Mutant("'a' and 'A' are one unit", (17,), 'dp/execution/bounding.py', 'return column.cast("string").cast("binary")', 'return F.lower(column.cast("string")).cast("binary")', ('tests/attacks/test_groups_and_units.py',)),
    Mutant('rows of nobody counted', (17,), 'dp/execution/bounding.py', 'present = present & F.col(quoted(name)).isNotNull()', 'present = present & F.lit(True)', ('tests/attacks/test_groups_and_units.py', 'tests/dp/execution/test_bounding.py')),
    Mutant('noise before the debit', (20,), 'dp/execution/one_lake.py', '    ledger.arm(armed, b"")  # nothing to resume from: on one lake the noise is drawn after this, once\n    made = draw(run_id)\n', '    made = draw(run_id)\n    ledger.arm(armed, b"")\n', ('tests/attacks/test_debit_first.py',)),
)

_SLOW = frozenset(
    ['totals for free', "Spark's own sum", 'no clamp before rounding', 'no clamp after rounding', 'NULL becomes a bound', 'NaN becomes a bound', 'NaN counts in a mean', 'NaN is a value of its own', 'columns narrowed to integers', "Spark's own addition", "Spark's own negation", 'the floor of NaN is zero', 'one salt for all releases', 'one salt for all private keys', 'noise drawn again for every action', 'a missing group without noise', 'rows outside the key set counted', 'rows of no group counted', 'two columns run together', "'a' and 'A' are one unit", 'rows of nobody counted', 'noise before the debit']
)
"""Those whose tests start Spark, or draw millions of samples."""

QUICK = frozenset(mutant.name for mutant in MUTANTS) - _SLOW
"""Those whose tests take seconds."""
