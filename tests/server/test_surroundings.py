"""What a prompt carries from elsewhere: the right things, within the budget, the same from key to key, and never a secret."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coderl_generator.complete import Budget
from coderl_generator.fim_templates import TEMPLATES
from coderl_generator.prompt import Place as PromptPlace
from coderl_generator.prompt import render
from coderl_server.documents import Change, DocumentStore
from coderl_server.positions import Encoding
from coderl_server.retrieval import Around, Outlined, retrieve
from coderl_server.settings import Settings
from coderl_server.surroundings import FAR_LINES, Surroundings, shown_path
from coderl_server.touched import Touched
from coderl_store.records import Suggestion

PRICES = """PRICES = {"tea": 3}


def price_of(item: str, amount: int = 1) -> int:
    found = PRICES[item]
    found *= amount
    return found


class Discount:
    def apply(self, total: int) -> int:
        half = total // 2
        self.last = half
        return half
"""
BILL = "from shop.prices import price_of\n\n\ndef bill(basket):\n    total = "


class Desk:
    """Open documents and what surrounds a place at the end of one of them."""

    def __init__(self, **options: Any) -> None:
        self.documents = DocumentStore(1_000_000)
        self.touched = Touched()
        self.now_s = 0.0
        self.settings = Settings(**options)
        self.around = Surroundings(self.documents, self.touched, lambda: self.now_s)

    def open(self, name: str, text: str, language: str = "python") -> None:
        self.documents.open(f"file:///home/me/shop/{name}", language, 1, text)

    def type(self, name: str, text: str, line: int, character: int = 0) -> None:
        uri = f"file:///home/me/shop/{name}"
        edits = self.documents.change(uri, [Change((line, character, line, character), text)], 1, Encoding.UTF16)
        assert edits is not None
        self.touched.edited(uri, edits)

    def snippets(self, name: str, line: int = 10_000, template: str = "plain", chars: int | None = None) -> Any:
        document = self.documents.get(f"file:///home/me/shop/{name}")
        assert document is not None
        place = document.snapshot(line, 10_000, Encoding.UTF16, 6000, 2000)
        budget = Budget(max_context_chars=self.settings.context_chars if chars is None else chars)
        return self.around.snippets(place, self.settings, template, budget)

    def text(self, name: str, **options: Any) -> str:
        return "\n".join(f"{one.path}\n{one.text}" for one in self.snippets(name, **options))


def test_an_imported_name_brings_its_definition_before_it_is_used() -> None:
    desk = Desk(context_chars=1000)
    desk.open("prices.py", PRICES)
    desk.open("bill.py", BILL)
    text = desk.text("bill.py")
    assert text.startswith("shop/prices.py\n")
    assert "def price_of(item: str, amount: int = 1) -> int: ..." in text
    assert "found *= amount" not in text


def test_a_name_near_the_place_brings_its_definition_without_an_import() -> None:
    desk = Desk(context_chars=120)
    desk.open("prices.py", PRICES)
    desk.open("bill.py", "x = Discount()\nx.")
    text = desk.text("bill.py")
    assert "class Discount" in text
    assert "price_of" not in text


def test_definitions_and_imports_of_the_same_file_come_from_outside_the_window_only() -> None:
    desk = Desk(context_chars=1000)
    head = "from far import away\n\n\ndef early(a: int) -> int:\n    b = a\n    c = b\n    return c\n\n\n"
    desk.open("long.py", head + "filler = 1\n" * 600 + "early(away(")
    text = desk.text("long.py")
    assert "def early(a: int) -> int: ..." in text
    assert "from far import away" in text
    desk.documents.close("file:///home/me/shop/long.py")
    desk.open("short.py", head + "early(away(")
    assert desk.text("short.py") == ""


def test_what_was_edited_elsewhere_and_similar_code_come_too() -> None:
    desk = Desk(context_chars=4000)
    desk.open("other.py", "one = 1\n" * 40)
    desk.type("other.py", "fresh = edited\n", 20)
    desk.open("alike.py", "\n" * 60 + "ledger = Ledger(owner)\nledger.post(amount, owner)\n")
    desk.open("bill.py", "ledger = Ledger(owner)\nledger.post(")
    text = desk.text("bill.py")
    assert "fresh = edited" in text
    assert "ledger.post(amount, owner)" in text
    assert text.index("shop/alike.py") < text.index("shop/other.py")


def test_while_somebody_types_it_stays_the_same_to_the_letter() -> None:
    desk = Desk(context_chars=1000)
    desk.open("prices.py", PRICES)
    desk.open("bill.py", BILL)
    first = desk.snippets("bill.py")
    for key, at in zip("Discount", range(12, 20), strict=True):
        desk.type("bill.py", key, 4, at)
        assert desk.snippets("bill.py") is first
    desk.type("bill.py", "\n" * (FAR_LINES + 1), 4, 20)
    assert "class Discount" in desk.text("bill.py")


def test_an_edit_elsewhere_changes_only_what_it_changes() -> None:
    desk = Desk(context_chars=150)
    desk.open("prices.py", PRICES)
    desk.open("bill.py", BILL)
    first = desk.snippets("bill.py")
    desk.type("prices.py", "\n# nothing\n", 15)
    assert desk.snippets("bill.py") == first
    desk.type("prices.py", "new_", 3, 13)
    assert "def price_of(new_item: str" in desk.text("bill.py")


@pytest.mark.parametrize("name", [".env", "id_rsa", "secrets.py", "server.key", ".aws/config.py"])
def test_secrets_never_become_context(name: str) -> None:
    desk = Desk(context_chars=4000)
    desk.open(name, PRICES)
    desk.type(name, "password = 'tiger'\n", 0)
    desk.open("bill.py", BILL + "Discount(price_of(")
    assert desk.snippets("bill.py") == ()


@pytest.mark.parametrize(
    "options",
    [
        {"disable_globs": ("prices.py",)},
        {"secret_globs": ("prices.*",)},
        {"languages": {"python": False}},
        {"enabled": False},
        {"max_document_chars": 100},
        {"context_chars": 0},
    ],
)
def test_excluded_documents_never_become_context_and_settings_work_at_once(options: dict[str, Any]) -> None:
    desk = Desk(context_chars=1000)
    desk.open("prices.py", PRICES)
    desk.type("prices.py", "#\n", 0)
    desk.open("bill.py", BILL)
    assert "price_of" in desk.text("bill.py")
    desk.settings = Settings(**{"context_chars": 1000, **options})
    assert desk.snippets("bill.py") == ()


def test_a_closed_document_is_forgotten() -> None:
    desk = Desk(context_chars=1000)
    desk.open("prices.py", PRICES)
    desk.open("bill.py", BILL)
    assert desk.snippets("bill.py")
    desk.documents.close("file:///home/me/shop/prices.py")
    assert desk.snippets("bill.py") == ()


def test_the_budget_of_time_leaves_the_rest_for_the_next_request() -> None:
    desk = Desk(context_chars=4000, context_ms=5.0)
    for number in range(4):
        desk.open(f"other{number}.py", f"def helper{number}(a):\n    b = a\n    c = b\n    return c\n")
    desk.open("bill.py", "helper0(helper1(helper2(helper3(")
    ticks = iter(range(1000))

    def slow() -> float:
        return next(ticks) * 0.003

    desk.around = Surroundings(desk.documents, desk.touched, slow)
    found = [desk.text("bill.py").count("def helper") for _ in range(6)]
    assert found[0] < 4
    assert found[-1] == 4
    assert len(set(found)) == 2  # it changes once, when all is read


words = st.sampled_from(
    ["def price(a):", "    return total", "class Cart:", "import cart", "<|fim_", "middle|>", "total = price(1)", ""]
)
files = st.lists(words, max_size=30).map("\n".join)


@settings(max_examples=60)
@given(st.lists(files, max_size=4), files, st.integers(0, 600), st.sampled_from(TEMPLATES), st.integers(0, 29))
def test_the_budget_is_never_exceeded_in_the_prompt(others: list[str], own: str, chars: int, template: str, line: int) -> None:
    mine = Outlined.of("own", "p/cart.py", "python", own)
    read = [Outlined.of(f"o{n}", f"p/o{n}.py", "python", text) for n, text in enumerate(others)]
    lines = tuple(own.split("\n"))
    snippets = retrieve(Around(mine, 0, line, lines), read, [("o0", line), ("own", 0)], template, chars)
    bare = render(PromptPlace(own, "", "python", "p/cart.py"), template).text
    full = render(PromptPlace(own, "", "python", "p/cart.py", snippets), template, max_context_chars=1 << 20).text
    assert len(full) - len(bare) <= chars
    everything = [retrieve(Around(mine, 0, line, lines), order, [], template, 1 << 20) for order in (read, read[::-1])]
    assert everything[0] == everything[1]
    assert "<|fim_middle|>" not in full.removesuffix("<|fim_middle|>")


def test_paths_hold_no_more_than_two_names() -> None:
    assert shown_path("file:///home/me/pro%20ject/a.py") == "pro ject/a.py"
    assert shown_path("file:///c%3A/Users/me/a.py?x#y") == "me/a.py"
    assert shown_path("untitled:Untitled-1") == "untitled:Untitled-1"


def test_the_service_sends_it_and_an_edit_elsewhere_leaves_the_memory_alone(workbench: Any) -> None:
    bench = workbench(decides="always_show", context_chars=1000)
    bench.open(PRICES, uri="file:///project/prices.py")
    bench.open("from prices import price_of\nsum(")
    bench.ask(1, 4)
    prompt = bench.backend.requests[-1].prompt
    assert prompt.startswith('# From project/prices.py:\n# PRICES = {"tea": 3}\n# def price_of(')
    assert prompt.endswith("# Path: project/module.py\nfrom prices import price_of\nsum(")
    bench.type("# new\n", 0, 0, uri="file:///project/prices.py")
    bench.ask(1, 4)
    assert [row.source for row in bench.rows(Suggestion)] == ["generated", "remembered"]
    assert len(bench.backend.requests) == 1
