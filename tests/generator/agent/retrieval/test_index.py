"""The index of a workspace: what it finds, what it notices, and what never goes astray."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coderl_generator.agent.retrieval import Hit, Index
from coderl_generator.agent.retrieval.files import LeftOut
from coderl_generator.agent.retrieval.index import MOST_EMBEDDED, fuse


def everything(path: PurePosixPath) -> bool:
    return True


def found(index: Index, query: str, limit: int = 8) -> list[str]:
    return [hit.citation for hit in index.search(query, limit)]


class Longest:
    """An embedder to which longer texts are nearer; it notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def similarities(self, query: str, texts: Sequence[str]) -> list[float]:
        self.asked.append(len(texts))
        return [float(len(text)) for text in texts]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    (root / "shop").mkdir(parents=True)
    (root / "shop" / "prices.py").write_text("def discount(price):\n    return price * 0.9\n")
    (root / "shop" / "mail.py").write_text("def send_invoice(address):\n    raise NotImplementedError\n")
    (root / "README.md").write_text("# Shop\n\nInvoices are sent by mail.\n")
    return root


def test_a_hit_is_cited_by_its_lines(workspace: Path) -> None:
    (hit, *_) = Index.build(workspace, everything).search("how is a discount computed?")
    assert hit.citation == "shop/prices.py:1-2"
    assert hit.text == "def discount(price):\n    return price * 0.9"
    assert hit.score > 0
    assert hit.still_true(workspace)


def test_names_of_files_are_searched_too(workspace: Path) -> None:
    assert found(Index.build(workspace, everything), "prices", 1) == ["shop/prices.py:1-2"]


def test_nothing_is_found_of_nothing(workspace: Path) -> None:
    index = Index.build(workspace, everything)
    assert found(index, "kangaroo") == found(index, "") == found(index, "the of") == found(index, "invoice", 0) == []
    assert found(Index.build(workspace, lambda path: False), "invoice") == []


def test_what_is_not_admitted_is_not_indexed(workspace: Path) -> None:
    index = Index.build(workspace, lambda path: path.name != "shop")
    assert found(index, "invoice discount") == ["README.md:1-3"]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("def discount(price):\n    return price * 0.8\n"),
        lambda path: path.write_text("\ndef discount(price):\n    return price * 0.9\n"),
        lambda path: path.write_text("def discount(price):\n"),
        lambda path: path.write_bytes(b"def discount(price):\r\n    return price * 0.9\r\n"),
        lambda path: path.write_bytes(b"\0"),
        lambda path: path.unlink(),
        lambda path: (path.rename(path.with_name("elsewhere.py")), path.symlink_to("elsewhere.py")),
        lambda path: (path.parent.rename(path.parent.with_name("moved")), path.parent.symlink_to("moved")),
    ],
)
def test_a_hit_is_not_true_any_more_when_its_lines_are_not(workspace: Path, change: Callable[[Path], object]) -> None:
    (hit,) = Index.build(workspace, everything).search("discount", 1)
    change(workspace / "shop" / "prices.py")
    assert not hit.still_true(workspace)


def test_a_hit_stays_true_where_other_lines_change(workspace: Path) -> None:
    (hit,) = Index.build(workspace, everything).search("discount", 1)
    with (workspace / "shop" / "prices.py").open("a") as file:
        file.write("\n\ndef tax(price):\n    return price * 0.19\n")
    assert hit.still_true(workspace)


def test_only_what_changed_is_read_again(workspace: Path) -> None:
    index = Index.build(workspace, everything)
    assert index.refresh() == []
    (workspace / "shop" / "mail.py").write_text("def send_parcel(address):\n    raise NotImplementedError\n")
    (workspace / "new.py").write_text("parcel = 1\n")
    (workspace / "README.md").unlink()
    assert index.refresh() == [PurePosixPath("README.md"), PurePosixPath("new.py"), PurePosixPath("shop/mail.py")]
    assert found(index, "invoice") == []
    assert sorted(found(index, "parcel")) == ["new.py:1-1", "shop/mail.py:1-2"]


def test_a_file_that_was_only_touched_has_not_changed(workspace: Path) -> None:
    index = Index.build(workspace, everything)
    os.utime(workspace / "README.md", ns=(1, 1))
    assert index.refresh() == []


def test_the_same_size_and_time_hide_nothing(workspace: Path) -> None:
    path = workspace / "shop" / "prices.py"
    os.utime(path, ns=(1, 1))
    index = Index.build(workspace, everything)
    path.write_text(path.read_text().replace("discount", "discards"))
    os.utime(path, ns=(1, 1))
    assert index.refresh() == [PurePosixPath("shop/prices.py")]


def test_what_is_left_out_is_counted(workspace: Path) -> None:
    (workspace / "a.bin").write_bytes(b"\0" * 10)
    (workspace / "b.bin").write_bytes(b"\0" * 10)
    (workspace / "data.csv").write_bytes(b"1,2\n" * 400_000)
    index = Index.build(workspace, everything)
    assert index.left_out == {LeftOut.BINARY: 2, LeftOut.TOO_LARGE: 1}
    (workspace / "a.bin").write_text("text now\n")
    assert index.refresh() == [PurePosixPath("a.bin")]
    assert index.left_out == {LeftOut.BINARY: 1, LeftOut.TOO_LARGE: 1}


NAMES = st.sampled_from(["a.py", "b.md", "d/a.py", "d/c.txt", "d"])
CONTENTS = st.one_of(
    st.none(),
    st.binary(max_size=200),
    st.lists(st.sampled_from([b"def gate():", b"    cost = 1", b"", b"\xff\xfe", b"x" * 5_000]), max_size=90).map(b"\n".join),
)


@settings(max_examples=60)
@given(st.lists(st.lists(st.tuples(NAMES, CONTENTS), max_size=5), max_size=4), st.text(max_size=30) | st.just("gate cost"))
def test_an_index_that_was_refreshed_is_one_that_was_built(rounds: list[list[tuple[str, bytes | None]]], query: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        index = Index.build(root, everything)
        for changes in rounds:
            for name, content in changes:
                put(root / name, content)
            index.refresh()
            fresh = Index.build(root, everything)
            assert index.search(query) == fresh.search(query)
            assert index.left_out == fresh.left_out
            assert len(index) == len(fresh)
            assert all(hit.still_true(root) for hit in index.search("gate cost", 99))


def put(path: Path, content: bytes | None) -> None:
    """A file in place of whatever is there; None = a symbolic link to itself."""
    for place in (path, *path.parents[: len(path.parts) - len(Path(tempfile.gettempdir()).parts) - 2]):
        if place.is_file() or place.is_symlink():
            place.unlink()
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(exist_ok=True)
    if content is None:
        path.symlink_to(path)
    else:
        path.write_bytes(content)


@settings(max_examples=150)
@given(st.binary(max_size=3_000), st.text(max_size=200))
def test_no_file_and_no_question_breaks_it(content: bytes, query: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "odd").write_bytes(content)
        index = Index.build(Path(folder), everything, Longest())
        for hit in index.search(query):
            assert hit.still_true(Path(folder))


def test_a_small_workspace_is_ranked_by_meaning_as_a_whole(workspace: Path) -> None:
    embedder = Longest()
    hits = Index.build(workspace, everything, embedder).search("discount")
    assert embedder.asked == [3], "what shares no word with the question is asked about too"
    assert [hit.citation for hit in hits] == ["shop/prices.py:1-2", "shop/mail.py:1-2", "README.md:1-3"]


def test_of_a_large_workspace_only_the_best_are_embedded(tmp_path: Path) -> None:
    for number in range(3 * MOST_EMBEDDED):
        (tmp_path / f"{number}.txt").write_text("gate " * (1 + number % 7) + "\n")
    embedder = Longest()
    index = Index.build(tmp_path, everything, embedder)
    assert len(index.search("gate", 1_000)) == MOST_EMBEDDED * 3
    assert embedder.asked == [MOST_EMBEDDED]


def test_without_a_word_in_common_and_a_large_workspace_nothing_is_found(tmp_path: Path) -> None:
    for number in range(MOST_EMBEDDED + 1):
        (tmp_path / f"{number}.txt").write_text("gate\n")
    assert Index.build(tmp_path, everything, Longest()).search("kangaroo") == []


PLACES = st.permutations([("a", 1), ("a", 9), ("b", 1), ("c", 1)])


@given(PLACES, PLACES)
def test_fusion_prefers_what_both_prefer(first: list[tuple[str, int]], second: list[tuple[str, int]]) -> None:
    scores = fuse([first, second])
    for better in first:
        for worse in first:
            if first.index(better) < first.index(worse) and second.index(better) < second.index(worse):
                assert scores[better] > scores[worse]
    assert scores == pytest.approx(fuse([second, first]))


def test_hits_are_values(workspace: Path) -> None:
    first, second = (Index.build(workspace, everything).search("invoice") for _ in range(2))
    assert first == second
    assert all(isinstance(hit, Hit) for hit in first)
