"""What speaks against an answer: another kind of thing, another row, another column, another year, another subject."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.chatbot.shelf import Sheet, ask, bot, searcher

from modelyard.calc.text import stem
from modelyard.workloads.chatbot.catalogue import Catalogue
from modelyard.workloads.chatbot.chain import Chatbot
from modelyard.workloads.chatbot.judge import stands_in

GUIDE = (
    Sheet(
        "canteens.md",
        "Table 1. Canteens\nSite\tBreakfast\tLunch\tPrice of the daily dish (euros)\n"
        "Delft\t07:30 to 09:00\t11:30 to 13:30\t4.60\nPorto\t07:45 to 09:15\t12:00 to 14:00\t3.90\n\n"
        "A physiotherapist comes to Delft on Mondays. Letters to the canteen go to the head cook, Rosa Lind.",
        title="Guide to the canteens",
        section="Canteens",
    ),
    Sheet(
        "archive.md",
        "Table 2. Shelves of the archive\nMetres of shelf at the end of the year\n"
        "Department\t2021\t2022\t2023\tCapacity\n"
        "Payroll\t40\t44\t47\t90\nSales\t120\t131\t140\t200\n\n"
        "Hold H-21, on the old lighthouse, was lifted in April. Test messages are sent four times a year; in 2023 the "
        "share of employees who clicked was 6 percent, after 9 percent in 2022.",
        title="The archive",
        section="The archive",
    ),
    Sheet(
        "meters.md",
        "Table 3. Technical data of the Brook meters\nProperty\t15\t20\t40\nLength (mm)\t110\t130\t300\n"
        "Weight (kg)\t0.7\t0.9\t3.9\nBattery life (years)\t16\t14\t10\n\n"
        "The flange set for DN 50 costs 64 euros. On-time delivery was 93 percent in 2022.",
        title="Brook meters",
        section="Brook meters",
    ),
    Sheet(
        "laptops.md",
        "The loss of a laptop is reported to the help desk within four hours. A loan laptop goes to countries "
        "that the security team has listed. Goods worth more than 50,000 euros are insured one by one.",
        title="Laptops and losses",
        section="Laptops and losses",
    ),
)


@pytest.fixture(scope="module")
def chatbot(tmp_path_factory: pytest.TempPathFactory) -> Chatbot:
    return bot(tmp_path_factory.mktemp("guide"), list(GUIDE))


@pytest.mark.parametrize(
    ("question", "gold"),
    [
        ("When is lunch served in Porto?", "12:00 to 14:00"),
        ("What does the daily dish cost in Delft?", "4.60"),
        ("How heavy is the Brook 20?", "0.9"),
        ("How long does the battery of a Brook 40 last?", "10"),
        ("How many metres of shelf did Sales have at the end of 2022?", "131"),
        ("How much is the flange set for DN 50?", "64 euros"),
        ("What was hold H-21 about?", "lighthouse"),
        ("What share of employees clicked on the test messages in 2022?", "9 percent"),
        ("I left my laptop on the train!! how quickly do i have to report its loss", "four hours"),
    ],
)
def test_what_is_asked_for_is_found(chatbot: Chatbot, question: str, gold: str) -> None:
    output = ask(chatbot, question)
    assert stands_in(gold, output["answer"]), output


@pytest.mark.parametrize(
    "question",
    [
        "At what time does the physiotherapist in Delft begin on Mondays?",  # a day is no time of day
        "Which insurance company covers our goods?",
        "How many metres of shelf did Sales have at the end of 2024?",  # a capacity is no year
        "What share of employees clicked on the test messages in 2020?",
        "How much is the flange set for DN 80?",
        "What was hold H-22 about?",
        "What does breakfast for a guest from Utrecht cost?",
        "Who is the site manager of Porto?",  # a site is nobody
        "What was our on-time delivery in 2023?",
        "How heavy is the Brook 25?",
        "Why was hold H-21 lifted?",
        "What's the phone number of the head cook?",
        "What is the wifi password in Delft?",
        "From what time can I see the physiotherapist in Delft on a Monday?",
    ],
)
def test_what_only_looks_like_it_is_refused(chatbot: Chatbot, question: str) -> None:
    output = ask(chatbot, question)
    assert output["refused"], output


def test_a_half_is_not_the_other_half(tmp_path: Path) -> None:
    caption = "Table 1. Points of suppliers in the second half of 2024"
    text = f"{caption}\nSupplier\tQuality\tTotal\nOrkan\t31\t80\nFjeld\t28\t71"
    chatbot = bot(tmp_path, [Sheet("points.md", text, title="Suppliers", section="Suppliers"), *GUIDE[:2]])
    assert stands_in("80", ask(chatbot, "What total did Orkan get in the second half of 2024?")["answer"])
    assert ask(chatbot, "What total did Orkan get in the first half of 2024?")["refused"]


RESULTS = (
    "Table 1. Operating profit by line, in thousands of euros\nLine\t2023\t2024\nMeters\t410\t440\nLoggers\t61\t65\n\n"
    "Maternity and paternity leave last 16 weeks.\n\n"
    "Whoever may not be reached asks the travel desk, which may go over the limit by 15 percent."
)
PEOPLE = (
    "Table 1. People by site on 31 December\nHeadcount, without agency workers\nSite\t2023\t2024\nDelft\t40\t44\n"
    "Porto and Aarhus\t61\t65\n\nTwins add four weeks to maternity leave."
)


@pytest.mark.parametrize(
    ("question", "gold"),
    [
        ("How many people were there in Delft in 2024?", "44"),
        ("How many people were there in Porto and Aarhus in 2024?", "65"),
        ("We are expecting twins. By how much does that lengthen my maternity leave?", "four weeks"),
        ("How many agency workers were there in Delft in 2024?", ""),
        ("How many people were there in Porto alone in 2024?", ""),
        ("What operating profit did loggers make in 2024?", "65"),
        ("What net profit did loggers make in 2024?", ""),
        ("How long is maternity leave?", "16 weeks"),
        ("How far over the limit may the travel desk go?", "15 percent"),
    ],
)
def test_a_figure_is_told_of_what_it_counts_and_of_no_part(tmp_path: Path, question: str, gold: str) -> None:
    figures = {"people": PEOPLE, "results": RESULTS}
    sheets = [Sheet(f"{n}.md", text, title=f"Our {n}", section=f"Our {n}") for n, text in figures.items()]
    chatbot = bot(tmp_path, [*sheets, *GUIDE[:2]])
    output = ask(chatbot, question)
    assert stands_in(gold, output["answer"]) if gold else output["refused"], output


def test_a_column_called_after_a_city_is_that_of_its_country(tmp_path: Path) -> None:
    text = "Table 1. Deliveries by plant in 2024\nDeliveries\tDelft\tPorto\nInspected\t900\t730\nRejected\t51\t38"
    chatbot = bot(tmp_path, [Sheet("plants.md", text, title="Goods-in", section="Goods-in"), *GUIDE[:2]])
    output = ask(chatbot, "How many deliveries were rejected at the Portuguese plant in 2024?")
    assert stands_in("38", output["answer"]), output


def test_the_companys_name_tells_nothing_apart_and_a_countrys_does(tmp_path: Path) -> None:
    told = {"travel": "Tarnwell pays 50 euros a day in Norway.\n\nTarnwell has no agency abroad."}
    texts = {
        name: told.get(name, "Tarnwell sends letters to Denmark by ship.")
        for name in ("travel", "post", "archive", "kitchen")
    }
    sheets = [Sheet(f"{name}.md", text, title=name.title()) for name, text in texts.items()]
    catalogue = Catalogue(searcher(tmp_path, sheets))
    assert [catalogue.everywhere(stem(name)) for name in ("tarnwell", "denmark")] == [True, False]


def test_there_and_that_keep_to_what_was_named(chatbot: Chatbot) -> None:
    output = ask(chatbot, "Where is a physiotherapist on Mondays?", "In Delft.", "What does the dish cost in Porto?")
    assert stands_in("3.90", output["answer"])
    output = ask(
        chatbot, "When is breakfast served in Porto?", "07:45 to 09:15.", "And what does the daily dish cost there?"
    )
    assert stands_in("3.90", output["answer"]), output


LIBRARY = (
    Sheet(
        "lending.md",
        "Table 1. Lending\nItem\tLoan period (days)\tLate fee per day (euros)\nE-book\t21\t0.10\nBook\t28\t0.20\n"
        "Film\t7\t1.00\n\nThe pond is 40 metres long. Each seat has a lamp; lost keys cost 15 euros. The hall was "
        "painted in March 2023 for 9,000 euros.",
        title="Lending rules",
        section="Lending rules",
    ),
    Sheet(
        "rooms.md",
        "Table 2. Rooms for hire\nRoom\tPer day (euros)\nAttic\t140\nWorkshop\t95\n\nStory time is on Wednesdays. "
        "The choir meets every six weeks. Release 6.4 is kept up until 30 June 2025.",
        title="Rooms",
        section="Rooms",
    ),
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Chatbot:
    return bot(tmp_path_factory.mktemp("library"), [*LIBRARY, *GUIDE])


@pytest.mark.parametrize(
    ("question", "gold"),
    [
        ("How long is the loan period of a book?", "28"),  # the row named in full, not "E-book"
        ("What does the attic cost per day?", "140"),
        ("How long is the pond?", "40 metres"),
        ("Until when is release 6.4 kept up?", "30 June 2025"),
    ],
)
def test_the_thing_named_is_the_one_told_of(library: Chatbot, question: str, gold: str) -> None:
    output = ask(library, question)
    assert stands_in(gold, output["answer"]), output


@pytest.mark.parametrize(
    "question",
    [
        "What does the attic cost per week?",  # a price a day is none a week
        "How deep is the pond?",
        "How many seats are there in the hall?",  # keys at 15 euros are no seats
        "Who painted the hall?",
        "How long does story time last?",  # six weeks are of another sentence
        "Until when is release 6.3 kept up?",
    ],
)
def test_a_value_of_something_else_is_no_answer(library: Chatbot, question: str) -> None:
    output = ask(library, question)
    assert output["refused"], output


def test_prose_in_two_columns_keeps_to_the_words_of_an_answer(tmp_path: Path) -> None:
    prose = ", ".join(f"clause {word} says that the heron sleeps on its {word} leg" for word in "abcdefghijkl")
    text = f"Table 1. Birds\nBird\tHabits\nHeron\t{prose}\nOtter\tIt swims."
    chatbot = bot(tmp_path, [Sheet("birds.md", text, title="Birds", section="Birds"), *GUIDE], threshold="0.01")
    output = ask(chatbot, "What are the habits of the heron?")
    assert not output["refused"] and len(output["answer"].split()) <= 60
