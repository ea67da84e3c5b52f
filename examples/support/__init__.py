"""What the examples share: writing small lakes, running parties as processes, and showing answers beside the truth."""
