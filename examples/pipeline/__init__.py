"""A pipeline whose steps claim budget on a week's blocks: statistics, then a model's sufficient statistics."""
