"""A stochastic tester: runs what makes a release on neighbouring rows and looks for more privacy loss than was paid.

After the stochastic tester of Google's differential-privacy library and DP-Auditorium, none of whose code is used. Rows
go through the worker's own bounding and cell rules, values through Spark's own encoding expressions, noise through
`Plan.draw_noise`. The neighbour has one unit more (or as many as are protected together), with far more rows than
bounds allow and values a thousand times out of bounds. `rejections` says how opened cells are judged.

`python -m tests.statistical.tester` runs every case, a million samples each.
"""
