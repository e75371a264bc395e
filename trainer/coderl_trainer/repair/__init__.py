"""Repairs by an agent in a git repository: tasks, the harness that trusts nothing of the copy, rewards, figures, training."""
