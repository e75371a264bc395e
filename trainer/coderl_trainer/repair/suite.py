"""Ids of a test suite, run in a jail beside the repository that they test (SWE-Gym, SWE-bench).

The test files are the harness's: what `test_patch` makes of the base goes over whatever the agent left at those paths, and the
configuration of test runners (`conftest.py`, `pytest.ini` …) is the base's. An id is a dotted name of `unittest`, or pytest's
`path::Class::name`, which pytest runs where the jail's Python has it.

Covered: edited, deleted and added test files and configurations, exits before the tests are over (a test counts when its own
result was told), results on standard output (they go through a file with a word that the code under test is not told before
it is imported). **Not covered: code under test that is written to deceive a runner** in its own process: it can read that word
and forge results. Train on such tasks only where that is understood; tasks of statements have no such hole.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from coderl_generator.errors import JailFailed
from coderl_generator.jail import Jail, Job, Limits, Status
from coderl_trainer.errors import GitFailed
from coderl_trainer.verdicts import Cause, Ungraded

from .git import HarnessRepository
from .tasks import RepairTask
from .trees import Tree

_CONFIGURATIONS: Final = frozenset(
    {"conftest.py", "pytest.ini", "tox.ini", "setup.cfg", "sitecustomize.py", "usercustomize.py"}
)
_RUNNER: Final = "coderl_suite_runner.py"
_MARK: Final = "coderl-result"
_LIMITS: Final = Limits(
    wall_s=300.0, cpu_s=240, memory_bytes=4 << 30, folder_bytes=512 << 20, open_files=256, processes=16, output_bytes=4 << 20
)
_PROGRAM: Final = """\
import json, sys, unittest
mark, ids = sys.argv[1], json.loads(sys.stdin.read())
sys.argv[1:] = []
sys.path.insert(0, ".")
own = [one for one in ids if "::" not in one]
told = {}
for one in own:
    suite = unittest.defaultTestLoader.loadTestsFromName(one)
    result = unittest.TestResult()
    suite.run(result)
    told[one] = bool(result.testsRun) and result.wasSuccessful() and not result.skipped
rest = [one for one in ids if "::" in one]
if rest:
    import pytest
    class Results:
        def pytest_runtest_logreport(self, report):
            told[report.nodeid] = told.get(report.nodeid, True) and report.outcome == "passed"
    pytest.main(["-q", "-p", "no:cacheprovider", *rest], plugins=[Results()])
print("\\n" + mark + json.dumps(told), flush=True)
"""


def run_suite(jail: Jail, task: RepairTask, tree: Tree, base: Tree) -> frozenset[str] | Ungraded:
    """The ids that pass. `Ungraded` where the suite could not be started, or the harness's part of it failed."""
    try:
        tests = _test_files(task, base)
    except GitFailed as error:
        return Ungraded(f"the test patch does not apply: {error}", Cause.TASK)
    files = {name: entry.data for name, entry in tree.items() if not entry.is_link}
    for name in [name for name in files if PurePosixPath(name).name in _CONFIGURATIONS or name in task.protected]:
        del files[name]
    for name, entry in base.items():
        if PurePosixPath(name).name in _CONFIGURATIONS or name in task.protected:
            files[name] = entry.data
    files |= {name: entry.data for name, entry in tests.items()}
    if sum(map(len, files.values())) > _LIMITS.folder_bytes // 2:
        return frozenset()
    mark = f"{_MARK} {secrets.token_hex(16)} "
    files[_RUNNER] = _PROGRAM.encode()
    ids: Sequence[str] = (*task.fail_ids, *task.pass_ids)
    job = Job(("python3", "-B", _RUNNER, mark), files, json.dumps(ids).encode())
    try:
        ran = jail.run(job, _LIMITS)
    except JailFailed as error:
        return Ungraded(str(error), Cause.GRADER)
    said = [line for line in ran.stdout.decode(errors="replace").splitlines() if line.startswith(mark)]
    if ran.status is not Status.FINISHED or len(said) != 1:
        return frozenset()  # the code under test ended the runner, or used everything up
    try:
        told = json.loads(said[0][len(mark) :])
        return frozenset(name for name in ids if told.get(name) is True)
    except (ValueError, AttributeError):
        return frozenset()


def _test_files(task: RepairTask, base: Tree) -> Tree:
    """The files that the test patch touches, as they are after it."""
    if not task.test_patch:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        repository = HarnessRepository(Path(folder) / "tests.git")
        commit = repository.commit(base)
        after = repository.tree(repository.patched(commit, task.test_patch))
    return {name: entry for name, entry in after.items() if base.get(name) != entry}
