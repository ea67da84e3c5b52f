"""What releases cost: budgets, events, composition, noise scales that fit a budget, and the interface of a ledger."""
