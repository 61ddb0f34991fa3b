"""What `search` finds first, and how it explains itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.chatbot.shelf import Sheet, ask, bot

from modelyard.errors import RequestError
from modelyard.workloads.chatbot.chain import Chatbot
from modelyard.workloads.chatbot.glossary import Glossary
from modelyard.workloads.chatbot.periods import Period, days_in, period_in


def _report(name: str, file: str, year: int, sales: int, other: str) -> list[Sheet]:
    title, period = f"{name} annual report {year}", f"fiscal year {year}"
    return [
        Sheet(file, f"{title}\n\nThis report is about {name} and its year {year}.", 1, title, period, title),
        Sheet(
            file,
            f"Statement of income\n(millions of crowns)\n\t{year}\t{year - 1}\nSales of goods\t{sales}\t{sales - 7}\n"
            f"Cost of goods\t{sales // 2}\t{sales // 2 - 3}\nWages\t{sales // 9}\t{sales // 9 - 1}",
            2,
            title,
            period,
            f"{title} > Statement of income",
        ),
        Sheet(
            file,
            "Balance of the year\n(millions of crowns)\nMachines and buildings, net\t812\t790\nStocks\t92\t88\n"
            "Owed to suppliers\t41\t37",
            3,
            title,
            period,
            f"{title} > Balance of the year",
        ),
        Sheet(file, f"Risks\n\nWhat may harm {name}: {other}.", 4, title, period, f"{title} > Risks"),
    ]


REPORTS: tuple[Sheet, ...] = (
    *_report("Norby Kettles", "norby_2023.pdf", 2023, 431, "a lack of copper"),
    *_report("Norby Kettles", "norby_2024.pdf", 2024, 502, "a lack of tin"),
    *_report("Vasa & Holm", "vasa_holm_2024.pdf", 2024, 655, "storms at sea"),
)
SHED = "Parking\n\nCars stand behind the mill. Bicycles stand in the shed."
POLICIES: tuple[Sheet, ...] = (
    Sheet("leave-2023.md", "Leave\n\nEverybody has 28 days of leave a year.", 1, "Leave policy 2023", "2023", "Leave"),
    Sheet("leave-2025.md", "Leave\n\nEverybody has 30 days of leave a year.", 1, "Leave policy 2025", "2025", "Leave"),
    Sheet(
        "parking.md", "Parking\n\nCars stand behind the mill. Bicycles stand in the shed.", 1, "Parking", "", "Parking"
    ),
    Sheet(
        "parking-copy.md", "Parking\n\nCars stand behind the mill. Bicycles stand in the shed.", 1, "Parking", "", ""
    ),
    Sheet("canteen.md", "Canteen\n\nSoup is served from noon.", 1, "Canteen", "", "Canteen"),
)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Chatbot:
    return bot(tmp_path_factory.mktemp("reports"), REPORTS)


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Chatbot:
    return bot(tmp_path_factory.mktemp("policies"), POLICIES)


def found(chatbot: Chatbot, query: str, k: int = 5) -> list[tuple[str, int]]:
    return [(hit["document"], hit["page"]) for hit in chatbot.search(query, k)]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("What were the sales of goods of Vasa & Holm?", ("vasa_holm_2024.pdf", 2)),
        ("What were V&H's sales of goods in 2024?", ("vasa_holm_2024.pdf", 2)),
        ("What were the wages of Norby Kettles in 2023?", ("norby_2023.pdf", 2)),
        ("What were the wages of Norby Kettles in FY2024?", ("norby_2024.pdf", 2)),
        ("In norby_2023.pdf, what may harm the company?", ("norby_2023.pdf", 4)),
        ("Which risks does the annual report 2024 of Norby name?", ("norby_2024.pdf", 4)),
        ("According to the balance of the year, what did Norby owe to suppliers in 2024?", ("norby_2024.pdf", 3)),
        ("Machines and buildings, net, of Vasa & Holm in millions of crowns", ("vasa_holm_2024.pdf", 3)),
    ],
)
def test_a_question_that_names_its_place_finds_it(reports: Chatbot, query: str, first: tuple[str, int]) -> None:
    assert found(reports, query)[0] == first


@pytest.mark.parametrize(
    ("query", "both"),
    [
        (
            "Did Norby Kettles or Vasa & Holm have the greater sales of goods in 2024?",
            {("norby_2024.pdf", 2), ("vasa_holm_2024.pdf", 2)},
        ),
        (
            "How did the wages of Norby Kettles change between 2023 and 2024?",
            {("norby_2023.pdf", 2), ("norby_2024.pdf", 2)},
        ),
    ],
)
def test_a_comparison_finds_evidence_of_each(reports: Chatbot, query: str, both: set[tuple[str, int]]) -> None:
    assert both <= set(found(reports, query, 5))


def test_the_newest_version_comes_first_and_the_older_is_called_so(policies: Chatbot) -> None:
    hits = policies.search("How many days of leave does everybody have?", 5)
    assert hits[0]["document"] == "leave-2025.md" and hits[0]["why"]["superseded_by"] is None
    older = next(hit for hit in hits if hit["document"] == "leave-2023.md")
    assert older["why"]["superseded_by"] == "leave-2025.md"


@pytest.mark.parametrize("query", ["How many days of leave were there in 2023?", "leave under the previous policy"])
def test_the_older_version_comes_first_where_it_is_asked_for(policies: Chatbot, query: str) -> None:
    assert found(policies, query)[0] == ("leave-2023.md", 1)


def test_what_lies_in_another_folder_is_no_version(tmp_path: Path) -> None:
    sheets = [
        Sheet(
            f"{name.lower()}{middle}/annual-report-{year}.pdf", f"{name} sold {year - 1900} kettles.", 1, title, "", ""
        )
        for name, middle, year in (
            ("Vasa", "", 2024),
            ("Norby", "", 2021),
            ("Holm", "/2020", 2020),
            ("Holm", "/2022", 2022),
        )
        for title in [f"Annual report {year}"]
    ]
    chatbot = bot(tmp_path, sheets)
    hits = {hit["document"]: hit["why"]["superseded_by"] for hit in chatbot.search("How many kettles were sold?", 9)}
    assert hits == {
        "vasa/annual-report-2024.pdf": None,
        "norby/annual-report-2021.pdf": None,
        "holm/2020/annual-report-2020.pdf": "holm/2022/annual-report-2022.pdf",
        "holm/2022/annual-report-2022.pdf": None,
    }


@settings(deadline=None)
@given(st.lists(st.sampled_from(["May", "5", "2020", "-05-06", "7,", "12.", " ", "  ", "x", "September", "1", "\n"])))
def test_days_are_found_wherever_they_stand(parts: Sequence[str]) -> None:
    text = "".join(parts)
    assert days_in(" " * 100 + text + " " * 100) == days_in(text)
    assert days_in(f"{text} 3 May 2021") >= {(2021, 5, 3)}


def test_copies_are_shown_once_and_versions_are_no_copies(policies: Chatbot) -> None:
    hits = policies.search("Where do bicycles stand?", 5)
    parking = [hit for hit in hits if hit["document"].startswith("parking")]
    assert len(parking) == 1
    # The copy has the same words and comes first by name.
    assert [parking[0]["document"], parking[0]["also"][0]["document"]] == ["parking.md", "parking-copy.md"]
    answer = ask(policies, "Where do bicycles stand?")
    assert [cited["document"] for cited in answer["citations"]] == ["parking.md", "parking-copy.md"]
    assert {"leave-2023.md", "leave-2025.md"} <= {hit["document"] for hit in hits}


@pytest.mark.parametrize("copy", ["Depot - Copy (2).md", "new/Copy of Depot.md", "depot (1).md", "depot-kopie.md"])
def test_the_original_goes_before_its_copy(tmp_path: Path, copy: str) -> None:
    text = "Depot\n\nSledges are kept in the depot by the gate."
    for original, also, first in (("depot.md", text, "depot.md"), ("depot.md", text + " And 3 sacks.", copy)):
        # The copy's title says more of the question than the original's; where its text says other things it is none.
        shelf = (Sheet(original, also, 1, "Depot"), Sheet(copy, text, 1, "Sledges in the depot"), *POLICIES)
        folder = tmp_path / str(len(also))
        assert bot(folder, shelf).search("Where are sledges kept?", 3)[0]["document"] == first


def test_a_page_that_speaks_of_a_name_is_found_in_a_document_that_hardly_does(tmp_path: Path) -> None:
    """Most passages of one document say Venlo; the page that answers is of another, which says it once."""
    yard = [
        Sheet(
            "yards.md",
            f"# Part {i}\n\nThe yard of Venlo has {i} docks; Venlo loads lorries there.",
            i,
            "Yards",
            section=f"Part {i}",
        )
        for i in range(1, 13)
    ]
    systems = [
        Sheet(
            "systems.md",
            f"# Rule {i}\n\nPasswords have {i} signs, and mails are kept.",
            i,
            "Systems",
            section=f"Rule {i}",
        )
        for i in range(1, 9)
    ]
    table = "Table 1. Recovery targets\nSystem\tBack within\nPayroll\t2 days\nWarehouse system, Venlo\t4 hours"
    systems.append(Sheet("systems.md", table, 9, "Systems", section="Recovery"))
    chatbot = bot(tmp_path, [*yard, *systems])
    assert found(chatbot, "If the warehouse system in Venlo is down, when is it back within?", 3)[0] == (
        "systems.md",
        9,
    )


def test_a_row_that_begins_with_its_number_is_found_by_what_comes_next(tmp_path: Path) -> None:
    rows = "Table 1. How long\nNo.\tRecord\tYears\nF1\tFloor plans\t5\nF2\tVisitor books\t3\nF3\tBadge photos\t2"
    books = "The museum has a hall of books."
    chatbot = bot(tmp_path, [Sheet("keep.md", rows, title="Schedule"), Sheet("hall.md", books, title="Hall")])
    best = chatbot.search("How long do we keep visitor books?", 3)[0]
    assert best["document"] == "keep.md"
    assert best["why"]["parts"]["row"] > 0


def test_a_glossary_finds_what_is_called_otherwise(tmp_path: Path) -> None:
    query = "What is the fixed capital of Vasa & Holm?"
    words = {"fixed capital": ["machines and buildings, net", "balance of the year"]}
    assert found(bot(tmp_path, REPORTS, glossary=words), query)[0] == ("vasa_holm_2024.pdf", 3)


def test_a_glossary_takes_phrases_on_both_sides() -> None:
    words = Glossary({"time off in lieu": ["compensatory leave", "extra hours"], "P&L": ["statement of income"]})
    assert words.expand("How much time off in lieu is there?") == ("compensatory leave", "extra hours")
    assert words.expand("Extra hours as time off in lieu") == ("compensatory leave",)
    assert words.expand("What does the P&L say?") == ("statement of income",)
    assert words.expand("time of day") == ()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from(["sales", "wages", "Norby", "Vasa", "2023", "FY2024", "risks", "of", "?"]),
        min_size=1,
        max_size=8,
    )
)
def test_every_score_is_the_sum_of_its_parts(reports: Chatbot, words: Sequence[str]) -> None:
    hits = reports.search(" ".join(words), 6)
    for hit in hits:
        assert hit["score"] == pytest.approx(sum(hit["why"]["parts"].values()), abs=1e-5)
        assert set(hit["why"]["document"]) == {"name", "time", "kind"}
        assert all(0 <= fit <= 1 for fit in hit["why"]["document"].values())
    assert all(a["score"] >= b["score"] - 1e-9 for a, b in pairwise(hits))
    assert len({(hit["document"], hit["page"]) for hit in hits}) == len(hits)


@pytest.mark.parametrize(
    "query", ["?!", "the of and", "wages " * 10_000, "Wie hoch waren die Löhne im Jahr 2024?", "\u202e賃金 \x00"]
)
def test_odd_questions_get_some_list(reports: Chatbot, query: str) -> None:
    assert len(reports.search(query, 3)) <= 3


def test_an_empty_snapshot_finds_nothing(tmp_path: Path) -> None:
    assert bot(tmp_path, ()).search("wages", 3) == []


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("FY2022 and FY2021", Period(frozenset({2022, 2021}))),
        ("FY2018 - FY2020", Period(frozenset({2018, 2019, 2020}))),
        ("Q2 of FY2023", Period(frozenset({2023}), frozenset({2}))),
        ("FY2023Q1", Period(frozenset({2023}), frozenset({1}))),
        ("4Q22", Period(frozenset({2022}), frozenset({4}))),
        ("H1 FY2023", Period(frozenset({2023}), frozenset({2}))),
        ("the third quarter of 2021", Period(frozenset({2021}), frozenset({3}))),
        ("on May 26, 2023", Period(frozenset({2023}), frozenset(), frozenset({(2023, 5, 26)}))),
        ("dated 2023-08-30", Period(frozenset({2023}), frozenset(), frozenset({(2023, 8, 30)}))),
        ("room 2024b costs 2,019.50", Period()),
    ],
)
def test_times_are_read(text: str, period: Period) -> None:
    assert period_in(text) == period


@pytest.mark.parametrize("query", ["", "  \n\t"])
def test_a_search_for_nothing_is_refused(tmp_path: Path, query: str) -> None:
    with pytest.raises(RequestError, match="empty"):
        bot(tmp_path).search(query, 3)
