"""A query as a public value, before any row is read: facts, bounds, measures, aggregates, price and noise."""
