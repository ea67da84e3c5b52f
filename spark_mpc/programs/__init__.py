"""Programs of one's own over several parties' secret integers."""
