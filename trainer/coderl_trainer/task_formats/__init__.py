"""Readers of files of tasks, one module a format; `coderl_trainer.tasks` is the front."""
