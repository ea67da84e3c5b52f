"""Runnable jobs, each with the data that it needs."""
