"""The paper's claims, numbered, each with its own words and with how it is tested.

``python -m clear_lib.study.evidence.claims > book/claims.md`` writes the page of the book.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Chapters of the book that tests of claims live in.
CHAPTERS = {
    "02_three_phases": "Three phases",
    "03_lambert_w": "The Lambert W policy",
    "04_no_clearing_price": "There is no market-clearing price",
    "06_predictor": "Predicting the threshold",
    "07_streams_and_policies": "Streams and policies",
    "08_table_1": "Table 1",
    "09_variants": "Structural variants",
    "10_sensitivity": "Sensitivity",
    "12_spend_as_you_go": "Spend as you go",
    "14_audit": "The audit",
    "15_replica": "A replica at the paper's scale",
    "16_verdict": "Does it hold?",
}


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes
    ----------
    name : str
        ``C1``, ``C2``, …
    quote : str
        The paper's words, shortened.
    where : str
        Section of the paper.
    test : str
        What would show it, or show it wrong.
    chapter : str or None
        Key of :data:`CHAPTERS`; None if the chapter is still to be written.
    title : str
        The claim in a few words of ours.
    """

    name: str
    quote: str
    where: str
    test: str
    chapter: str | None
    title: str


#: What each claim says in a few words of ours, in order.
_TITLES = (
    "Accuracy is an S in the token limit",
    "Three phases by length: strict, surge, ample",
    "Longer reasoning may do harm",
    "The best response has a closed form",
    "A unique market-clearing price exists",
    "A price governs the optimum",
    "Queries leave above the initial velocity",
    "Pricing takes negligible time",
    "Only the ranks of forecasts matter",
    "CLEAR is better than Uniform",
    "Up to three times as many solved",
    "The gain is largest where tokens are scarcest",
    "CLEAR is better than Heuristic, Auction, TALE-EP",
    "The reported Oracle is an upper bound",
    "Uniform and Predictor leave most queries short",
    "CLEAR abandons what costs too much",
    "Better than Uniform on code",
    "Better than Uniform under heavy noise",
    "The adaptive decay is on the frontier",
    "The initial velocity only scales the price",
    "Other curves are above Uniform, too",
    "Better than Uniform with the 30B model",
    "Predictor data and evaluation data are apart",
    "A wrapper; no retraining",
)

_LIST = (
    (
        "reasoning utility follows an S-shaped curve when we fix the decoding strategy and vary the token limit",
        "§1, Fig. 1",
        "Cap greedy solutions at every length, data set by data set, and look at the share solved.",
        "02_three_phases",
    ),
    (
        "a Strict phase where short trajectories fail consistently, implying a minimum solvable threshold; a Surge "
        "phase where performance rises sharply past this threshold; and an Ample phase",
        "§2, Fig. 2",
        "Bin solutions by length, and fit the surge curve; over all questions, and, where a question has several solutions, "
        "within questions and question by question, since hard questions have long solutions.",
        "02_three_phases",
    ),
    (
        "additional generation yields diminishing returns and may eventually degrade solution quality",
        "§2",
        "See whether accuracy falls with length within a question, and under caps, where it cannot.",
        "02_three_phases",
    ),
    (
        "the optimal token allocation for a given [price] follows a closed-form solution",
        "§4.2, Theorem 4.2",
        "Check every step of the derivation numerically, and the result against a search over a fine grid.",
        "03_lambert_w",
    ),
    (
        "Since [demand] is strictly monotonically decreasing with respect to [the price], a unique [market-clearing "
        "price] is guaranteed to exist.",
        "§4.3",
        "Look for a price at which demand equals the budget, starting with one and two queries.",
        "04_no_clearing_price",
    ),
    (
        "the optimal policy is governed by a global shadow price",
        "§1, §4.1",
        "Compare what Algorithm 1 attains with the exact optimum of the same problem.",
        "04_no_clearing_price",
    ),
    (
        "exceeds the initial velocity for difficult tasks […] such tasks are abandoned",
        "§4.3",
        "Compare the price at which a query is abandoned with its initial velocity.",
        "03_lambert_w",
    ),
    (
        "the Lambert W function is efficiently computed via standard numerical libraries, thus introducing "
        "negligible latency",
        "§5.2",
        "Time the allocation beside the decoding.",
        "04_no_clearing_price",
    ),
    (
        "the allocation primarily relies on the predictor's ability to correctly rank tasks by latent threshold",
        "§7.1, Fig. 4",
        "Measure the rank correlation in and out of distribution; then distort the predictions in ways that keep "
        "all ranks, and see whether the results stay.",
        "06_predictor",
    ),
    (
        "CLEAR significantly improves the Pareto frontier of total token cost versus mean accuracy",
        "Abstract, Table 1",
        "Every policy on every stream and budget, over resampled streams, with tokens granted and tokens used.",
        "08_table_1",
    ),
    (
        "up to a 3[×] improvement in global accuracy compared to uniform allocation",
        "Abstract",
        "The ratio of CLEAR to Uniform at the scarcest budget.",
        "08_table_1",
    ),
    (
        "The largest improvements occur under the most constrained budget",
        "§7.2",
        "The gain over Uniform by budget, paired by stream.",
        "08_table_1",
    ),
    (
        "Unlike binary cut-off or auction, the Lambert policy dynamically adjusts the extra allowance […], ensuring "
        "valid tasks receive ample resources to handle uncertainty.",
        "§7.2",
        "The same table, read against CLEAR's own variants and TALE-EP, paired by stream.",
        "08_table_1",
    ),
    (
        "Oracle provides an upper bound using ground-truth solution lengths",
        "§6, A.2.6",
        "Run both readings of the oracle, and work out what Table 1's own Uniform row lets an oracle buy.",
        "14_audit",
    ),
    (
        "the majority of tasks receive fewer tokens than their ground-truth reasoning length",
        "§7.2, Fig. 6",
        "Count, at the scarcest budget, the queries that are granted less than their length, policy by policy.",
        "07_streams_and_policies",
    ),
    (
        "CLEAR explicitly abandons tasks where the computational cost outweighs the potential gain",
        "§7.2, Fig. 6",
        "See which queries are given nothing, by tier, and how many of them the model would have solved.",
        "07_streams_and_policies",
    ),
    (
        "CLEAR consistently improves over uniform allocation across all three code benchmarks",
        "§7.2, Table 2",
        "The arithmetic of the printed table; a run of it needs questions about code, and a grader that runs programs.",
        "14_audit",
    ),
    (
        "CLEAR maintains a significant advantage over Uniform even at high noise levels",
        "§7.3, Fig. 11",
        "Multiply the predictions by log-normal noise of growing size.",
        "10_sensitivity",
    ),
    (
        "Our adaptive mechanism […] consistently landing on the Pareto-optimal frontier across all regimes without "
        "manual tuning",
        "§7.3, Fig. 7",
        "Sweep fixed decay rates and the adaptive rule's own constant at every budget.",
        "10_sensitivity",
    ),
    (
        "varying [the initial velocity] results in negligible fluctuations in accuracy. Meanwhile, the "
        "market-clearing shadow price scales linearly",
        "§7.3, Fig. 8",
        "Sweep the initial velocity.",
        "10_sensitivity",
    ),
    (
        "both structural variants remain substantially above uniform allocation",
        "§7.4, Table 3",
        "Run the triangular and the quadratic utility on the same streams.",
        "09_variants",
    ),
    (
        "CLEAR consistently outperforms the uniform baseline across all tested conditions, achieving up to +2.4 "
        "accuracy gains",
        "Appendix B, Table 4",
        "The arithmetic of the printed table, and a replica of it; a run needs a larger model.",
        "15_replica",
    ),
    (
        "the evaluation suite is intentionally designed to be Out-of-Distribution (OOD) relative to the predictor's "
        "training set",
        "Appendix C, Tables 6 and 7",
        "Compare the counts of the printed tables with the sizes of the published data sets.",
        "14_audit",
    ),
    (
        "CLEAR requires no retraining of the backbone LLM and operates as a plug-and-play inference wrapper",
        "§1",
        "Wrap the live model in every policy: are its weights touched, does it write anything that it would not have "
        "written alone, and is the bill within the budget?",
        "12_spend_as_you_go",
    ),
)

CLAIMS = tuple(
    Claim(f"C{number}", quote, where, test, chapter, title)
    for number, ((quote, where, test, chapter), title) in enumerate(zip(_LIST, _TITLES, strict=True), start=1)
)

_HEAD = """\
# The claims

What the paper says, in its own words, and what would show it. A word in square brackets stands for a symbol or
is ours. The list is settled at the end: the verdicts, with the evidence for and against, are in
[](chapters/16_verdict.ipynb).
"""


def markdown() -> str:
    """The page of the book that lists the claims (MyST Markdown)."""
    parts = [_HEAD]
    for claim in CLAIMS:
        chapter = f"[{CHAPTERS[claim.chapter]}](chapters/{claim.chapter}.ipynb)" if claim.chapter else "a later chapter"
        parts.append(
            f"({claim.name})=\n## {claim.name}\n\n> {claim.quote}\n>\n> — {claim.where}\n\n"
            f"How it is tested: {claim.test[0].lower() + claim.test[1:]} ({chapter})\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    print(markdown(), end="")
