"""The generator's exceptions.

GeneratorError
├── ModelMissing       (FileNotFoundError)   no model is installed: the message says which command to run
├── ModelDamaged       (ValueError)          the model file is not what it should be (checksum, format)
├── UnknownBackend     (ValueError)          no backend of that name; the message lists the known ones
├── PromptTooLong      (ValueError)          the prompt does not fit the model's context
├── BackendUnavailable (ConnectionError)     the backend cannot be reached or died; trying again later may help
├── BackendRefused     (RuntimeError)        the backend says the request is wrong (HTTP 4xx); trying again does not help
│   ├── ToolsRefused                         the server takes no tool calls; the text protocol may work
│   └── ModelNotServed                       the server serves no model or adapter of that name (any more)
├── GenerationTimedOut (TimeoutError)        no token in time
├── BadTask            (ValueError)          a file of tasks, or a line of it, cannot be used
├── PathRefused        (PermissionError)     the agent may not read or write there; the message says why
├── ToolFailed         (RuntimeError)        a tool of the agent could not do what it was asked; the message is for the model
├── MalformedCall      (ValueError)          the model's call of a tool cannot be read; the message says what to write instead
├── ContextFull        (RuntimeError)        a conversation came too near to the model's context, and compaction is not wanted
├── BadTrajectory      (ValueError)          the record of a run cannot be used
├── JailUnavailable    (RuntimeError)        nothing here can run a program in isolation; the message says what to install
└── JailFailed         (RuntimeError)        the jail did not do its work this time; says nothing of the program inside
    └── ChannelClosed  (ConnectionError)     the program inside a jail is gone or closed its end of the channel
"""

from __future__ import annotations


class GeneratorError(Exception):
    """Root of everything this package raises on purpose."""


class ModelMissing(GeneratorError, FileNotFoundError):
    """No model is installed."""


class ModelDamaged(GeneratorError, ValueError):
    """The model file is not what it should be."""


class UnknownBackend(GeneratorError, ValueError):
    """No backend of that name."""


class PromptTooLong(GeneratorError, ValueError):
    """The prompt does not fit the model's context."""


class BackendUnavailable(GeneratorError, ConnectionError):
    """The backend cannot be reached, or died in mid-stream."""


class BackendRefused(GeneratorError, RuntimeError):
    """The backend refused the request; the same request will be refused again."""


class ToolsRefused(BackendRefused):
    """The server takes no tool calls."""


class ModelNotServed(BackendRefused):
    """The server knows no model or adapter of the name that was asked for."""


class GenerationTimedOut(GeneratorError, TimeoutError):
    """The backend did not answer in time."""


class BadTask(GeneratorError, ValueError):
    """A file of tasks, or a line of it, cannot be used; the message says which."""


class PathRefused(GeneratorError, PermissionError):
    """The agent may not read or write there."""


class ToolFailed(GeneratorError, RuntimeError):
    """A tool of the agent could not do what it was asked; the message is for the model."""


class MalformedCall(GeneratorError, ValueError):
    """The model's call of a tool cannot be read; the message says what to write instead."""


class ContextFull(GeneratorError, RuntimeError):
    """A conversation came too near to the model's context, and compaction is not wanted."""


class BadTrajectory(GeneratorError, ValueError):
    """The record of a run cannot be used; the message says which line."""


class JailUnavailable(GeneratorError, RuntimeError):
    """Nothing here can run a program in isolation."""


class JailFailed(GeneratorError, RuntimeError):
    """The jail did not do its work; nothing is known of the program."""


class ChannelClosed(JailFailed, ConnectionError):
    """The program inside a jail does not talk any more."""
