"""The pages of the team server: one question each, drawn on the server, for any number of workers and without internet."""

from .room import router

__all__ = ["router"]
