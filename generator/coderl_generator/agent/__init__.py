"""SimpleCoder: a coding agent on the backends, the jail and the log of this house.

Start with `loop`. What the agent may touch is decided in `workspace` (where) and `permissions` (whether), never by the model.
"""
