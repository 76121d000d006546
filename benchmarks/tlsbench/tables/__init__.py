"""A module for each table: `measure(effort, progress)` gives it."""
