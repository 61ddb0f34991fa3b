"""Plain English for questions and passages: which words carry meaning, which mean nearly the same, which name things.

Nothing here is knowledge of a field; that is the user's glossary (settings). Terms are those of `modelyard.calc.text`,
so that the index's document frequencies speak of the same things.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from modelyard.calc.text import analyse, fold, stem

LIGHT = frozenset(
    [
        "able",
        "allow",
        "allowed",
        "also",
        "amount",
        "any",
        "anybody",
        "anyone",
        "anything",
        "apply",
        "applies",
        "available",
        "been",
        "before",
        "being",
        "both",
        "case",
        "certain",
        "cover",
        "covered",
        "current",
        "currently",
        "different",
        "each",
        "either",
        "else",
        "ever",
        "every",
        "exact",
        "exactly",
        "example",
        "far",
        "find",
        "first",
        "following",
        "follow",
        "general",
        "generally",
        "get",
        "gets",
        "getting",
        "give",
        "given",
        "gives",
        "go",
        "goes",
        "going",
        "got",
        "happen",
        "happens",
        "hold",
        "holds",
        "include",
        "included",
        "including",
        "instead",
        "just",
        "keep",
        "know",
        "known",
        "let",
        "like",
        "long",
        "longer",
        "make",
        "makes",
        "made",
        "many",
        "may",
        "maybe",
        "me",
        "mention",
        "mentioned",
        "might",
        "more",
        "most",
        "much",
        "must",
        "my",
        "name",
        "named",
        "need",
        "needed",
        "needs",
        "new",
        "no",
        "not",
        "now",
        "number",
        "number",
        "of",
        "one",
        "only",
        "other",
        "our",
        "own",
        "per",
        "permitted",
        "please",
        "possible",
        "provide",
        "provided",
        "put",
        "receive",
        "received",
        "receives",
        "regarding",
        "require",
        "required",
        "requires",
        "same",
        "say",
        "says",
        "see",
        "set",
        "several",
        "shall",
        "should",
        "show",
        "some",
        "somebody",
        "someone",
        "something",
        "stand",
        "state",
        "stated",
        "still",
        "take",
        "taken",
        "takes",
        "tell",
        "than",
        "there",
        "thing",
        "things",
        "time",
        "times",
        "total",
        "two",
        "type",
        "under",
        "until",
        "up",
        "us",
        "use",
        "used",
        "uses",
        "using",
        "usual",
        "usually",
        "value",
        "want",
        "wants",
        "we",
        "well",
        "what",
        "whether",
        "while",
        "within",
        "without",
        "yes",
        "yet",
        "you",
        "your",
        "i",
        "he",
        "she",
        "they",
        "his",
        "her",
        "him",
        "company",
        "companies",
        "document",
        "documents",
        "policy",
        "according",
        "entitle",
        "entitled",
        "supposed",
        "actually",
        "often",
        "during",
        "after",
        "since",
        "between",
        "against",
        "over",
        "across",
        "per",
        "via",
        "down",
        "out",
        "off",
        "upon",
        "among",
        "minimum",
        "maximum",
        "highest",
        "lowest",
        "largest",
        "smallest",
        "least",
        "greatest",
        "biggest",
        "most",
        "fewest",
        "best",
        "worst",
        "occur",
        "occurs",
        "happen",
        "come",
        "comes",
        "came",
        "react",
        "meet",
        "met",
        "look",
        "looking",
        "ask",
        "asks",
        "start",
        "done",
        "doing",
        "made",
        "got",
        "mean",
        "means",
        "count",
        "counts",
        "quickly",
        "fast",
        "soon",
        "quick",
        "early",
        "heavy",
        "tall",
        "loud",
        "big",
        "high",
        "deep",
        "wide",
        "old",
        "warm",
        "hot",
        "cold",
        "far",
        "extra",
        "additional",
        "altogether",
        "roughly",
        "about",
        "approximately",
        "today",
        "yesterday",
        "tomorrow",
        "right",
        "ok",
        "okay",
        "thanks",
        "thank",
        "else",
        "mine",
        "myself",
        "another",
        "everyone",
        "everybody",
        "haven",
        "hasn",
        "don",
        "doesn",
        "didn",
        "isn",
        "aren",
        "wasn",
        "weren",
        "won",
        "wouldn",
        "shouldn",
        "couldn",
        "can",
        "cannot",
        "havent",
        "hasnt",
        "dont",
        "doesnt",
        "didnt",
        "isnt",
        "arent",
        "wasnt",
        "wont",
        "wouldnt",
        "cant",
        "am",
        "did",
        "because",
        "way",
        "ways",
        "next",
        "last",
        "let",
        "lets",
        "try",
        "want",
        "wish",
        "wants",
        "thinking",
        "think",
        "believe",
    ]
)
"""Words of a question that tell little about its subject: their absence from a passage weighs next to nothing."""

_THESAURUS = """
begin start commence | end finish conclude stop | buy purchase procure acquire | sell sale | car vehicle automobile
worker employee staff personnel colleague | boss manager supervisor superior | holiday vacation leave
ill sick illness sickness | doctor physician | certificate note | pay wage salary remuneration earn | price cost fee charge
reimburse refund repay | hotel accommodation lodging | flight fly plane air aircraft aeroplane | train rail railway
phone telephone call | mobile cellphone | laptop notebook | job position post role | quit resign | fire dismiss dismissal
firm company business enterprise | client customer | supplier vendor | goods merchandise product article item
warehouse depot | plant factory | site location place | office workplace | build construct make produce manufacture
send ship dispatch deliver delivery | return back | broken defective damaged faulty | repair fix mend | guarantee warranty
answer reply respond response | ask request apply application | approve approval authorise authorize consent permission sign
allow permit may | forbid forbidden prohibit prohibited ban | duty obligation must | maximum most limit cap up
minimum least | annual yearly year | monthly month | weekly week | daily day | quarterly quarter | rise increase grow raise grew rose
fall decrease decline drop fell reduce reduction | revenue sale turnover income | profit earning | expense expenditure spend spending cost
child kid son daughter | baby birth newborn | mother maternity | father paternity | marry marriage wedding | die death died bereavement funeral
house home | move moving relocate relocation | remote home telework | teach train training course | learn learning education
exam test check inspection | rule regulation | delete destroy erase deletion destruction dispose | keep retain retention store storage
password passphrase | email mail e-mail | secret confidential | lose lost loss | steal stolen theft | report notify tell inform announce
fill complete | form document | contract agreement | bill invoice | deadline due late latest | early earliest
show display | choose select pick | join hire recruit | leave leaving departure | lead head run manage responsible charge
found founded establish established foundation | temperature degree heat warm cold | weigh weight heavy | length long | height high tall
width wide | size big large dimension | speed fast quick | distance far kilometre km | area square | capacity volume hold
open opening opened | close closing closed shut | visit visitor guest | meal food eat | breakfast morning | lunch noon | dinner evening
bike bicycle cycle | motorbike motorcycle | taxi cab | ticket fare | luggage baggage | trip travel journey tour
money cash | euro eur € euros | dollar usd $ dollars | pound gbp £ pounds | percent % percentage share proportion
headcount employee staff people workforce | people person individual | woman female | man male | part component | spare replacement replace exchange swap
accident injury injured incident | fire blaze | safety safe | danger hazard dangerous hazardous | glove glasses equipment protective gear ppe
computer device machine | screen monitor display | connect connection join | internet network web | update upgrade patch
version edition revision | supersede replace | valid validity expire expiry lapse | extend extension prolong | cancel cancellation | refuse reject decline deny
annually yearly | twice two | once one | half 50 | quarter three-month | weekend saturday sunday | overtime extra
bonus premium | allowance supplement | budget fund | discount rebate reduction | tax vat | loan credit | debt owe | share stock
director executive | chairman chair chairperson | ceo chief | deputy substitute vice | owner own holder | author write written
country nation | city town | street address | region area | abroad foreign | language speak | goal target aim objective
kind type sort category class | level grade | step stage phase | reason why cause because | difference differ | often frequency every interval
submit hand file lodge claim | claim expense reimbursement | exchange replace swap renew | bad weak faulty defective poor
unused left remaining leftover spare | gone lost missing stolen vanish disappear | tell report notify inform mention say | friend acquaintance person
recommend refer referral suggest | truck lorry | vehicle van | accept agree approve consent | decide decision determine final | tie bind bound tied
paste enter insert copy type input | quotation quote offer bid tender estimate | assistant helper aide | abroad overseas foreign country
gather assemble assembly meet muster | react response respond reaction | unload load goods-in delivery | carry transport bring | bring take
draw withdraw withdrawal | purchase order | spend pay cost | supervise oversee manage | consult counsel advise advice | certificate proof
late delay overdue delayed | on-time punctual | interrupt outage interruption failure down fault | backup copy | restore recover recovery back
upload submit send | photograph photo picture image | film video recording camera | record file document entry | staircase stair lift elevator
hour time | weekday workday working | retire retirement pension | pregnant maternity pregnancy | dog animal pet cat | smoke smoking cigarette tobacco
drink alcohol beer wine | coffee tea beverage | vote elect election | law legal statute | court lawsuit litigation dispute | own belong property
noise loud sound decibel db | warn warning alert alarm | punish penalty sanction fine | reward bonus prize win | gift present | donate donation charity
clean wash rinse | cold frost freeze | rain weather wind | shoe boot footwear | coat clothes clothing garment | wear put | eye glasses spectacles
rent lease hire | insure insurance coverage | protect protection cover | encrypt encryption | lock block disable | key code pin | log register record
begin effective | expire end | newest latest current recent | former previous earlier old | total sum overall whole all | average mean typical
minus less deduct deduction subtract | plus add additional extra supplement | multiply times | double twice | per each every | at-once immediately
quantity number amount count | complaint complain | quality | error mistake fault | emission co2 carbon | energy electricity power | water | waste garbage rubbish
"""


_DEMONYMS = """
netherlands dutch holland | germany german | france french | britain british uk england english kingdom | denmark danish dane
sweden swedish | norway norwegian | finland finnish | portugal portuguese | spain spanish | italy italian | czech czechia
poland polish | austria austrian | switzerland swiss | belgium belgian | ireland irish | scotland scottish | greece greek
hungary hungarian | slovakia slovak | romania romanian | turkey turkish | russia russian | ukraine ukrainian | china chinese
japan japanese | korea korean | india indian | america american us usa states | canada canadian | mexico mexican
brazil brazilian | australia australian | europe european eu | asia asian | africa african
"""


NUMBER_WORDS = {
    word: str(value)
    for value, words in enumerate(
        [
            "zero",
            "one first",
            "two second twice",
            "three third",
            "four fourth",
            "five fifth",
            "six sixth",
            "seven seventh",
            "eight eighth",
            "nine ninth\n        ",
            "ten tenth",
            "eleven eleventh",
            "twelve twelfth",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ]
    )
    for word in words.split()
} | {
    "thirty": "30",
    "forty": "40",
    "fifty": "50",
    "sixty": "60",
    "seventy": "70",
    "eighty": "80",
    "ninety": "90",
    "hundred": "100",
}

_ENDINGS = [
    "isation",
    "ization",
    "ication",
    "ations",
    "ation",
    "ition",
    "ement",
    "ments",
    "ment",
    "ances",
    "ance",
    "ences",
    "ence",
    "ability",
    "ibility",
    "able",
    "ible",
    "ness",
    "ators",
    "ator",
    "ings",
    "ors",
    "ers",
    "or",
    "er",
    "ions",
    "ion",
    "als",
    "al",
    "ly",
    "ives",
    "ive",
    "ity",
    "ant",
    "ent",
    "ed",
    "ing",
    "y",
    "e",
    "s",
]


@lru_cache(maxsize=1 << 16)
def root(term: str) -> str:
    """What is left of a stem without the endings that make nouns of verbs and the like: approv(al), reimburs(ement)."""
    if len(term) < 6 or not term.isalpha() or term.endswith("ee"):
        return term
    for ending in _ENDINGS:
        if term.endswith(ending) and len(term) - len(ending) >= 4:
            return term[: -len(ending)]
    return term


def _groups() -> dict[str, frozenset[str]]:
    near: dict[str, set[str]] = {}
    for line in re.split(r"[|\n]", _THESAURUS):
        words = {root(stem(w)) for w in line.split()}
        for word in words:
            near.setdefault(word, set()).update(words - {word})
    return {word: frozenset(others) for word, others in near.items()}


NEAR = _groups()
"""Root -> roots that may stand in its place."""


DEMONYMS = {
    stem(word): frozenset(stem(w) for w in group.split()) - {stem(word)}
    for line in _DEMONYMS.splitlines()
    for group in line.split("|")
    for word in group.split()
}
"""A country's name and what belongs to it: the Dutch pension is that of the Netherlands."""


@dataclass(frozen=True)
class Bag:
    """The terms of a text: stems as the index has them, their roots, and the numbers written as words too."""

    stems: frozenset[str]
    roots: frozenset[str]

    def __or__(self, other: Bag) -> Bag:
        return Bag(self.stems | other.stems, self.roots | other.roots)


EMPTY = Bag(frozenset(), frozenset())


@lru_cache(maxsize=1 << 14)
def bag(text: str) -> Bag:
    """The bag of `text`; hyphenated words count whole and in parts."""
    stems = set(analyse(text))
    for word in re.findall(r"[a-z]+", fold(text).lower()):
        if word in NUMBER_WORDS:
            stems.add(NUMBER_WORDS[word])
    return Bag(frozenset(stems), frozenset(root(s) for s in stems))


def union(bags: Iterable[Bag]) -> Bag:
    out = EMPTY
    for each in bags:
        out = out | each
    return out


def squeeze(text: str) -> str:
    """`text` on one line, a tab of a table as two spaces gone to one."""
    return " ".join(text.split())
