"""The sections on what was decided: the gate's verdict, and what was allowed knowingly."""

from training.judging.gate_rules import RuleResult
from training.report.facts import ReportFacts
from training.report.html import Html, element, join
from training.report.tables import bullets, paragraph


def gate(facts: ReportFacts) -> Html:
    """The gate's verdict, a rule a line."""
    verdict = facts.verdict
    if verdict is None:
        return paragraph("Not gated yet: ridecast models gate ", facts.manifest.model_version, class_="missing")
    opponent = verdict.against or "the baseline, the channel being empty"
    months = ", ".join(verdict.months) or "no month"
    return join(
        paragraph(
            element("span", "Passed", class_="pass") if verdict.passed else element("span", "Failed", class_="fail"),
            f" for the channel {verdict.channel}, against {opponent}, on {months}.",
        ),
        element("ul", *(_rule(rule) for rule in verdict.rules), class_="rules"),
    )


def breaches(facts: ReportFacts) -> Html:
    """What the data contract forbids and somebody allowed."""
    if not facts.breaches:
        return paragraph("Nothing: no breach of the data contract was recorded.")
    return join(
        paragraph("The training months break these rules of the data contract. Somebody went on, knowing it:"),
        bullets(*facts.breaches),
    )


def _rule(rule: RuleResult) -> Html:
    mark = element("span", "✓ pass", class_="pass") if rule.passed else element("span", "✗ fail", class_="fail")
    texts = element("div", element("b", rule.rule), element("p", rule.seen), element("p", f"wanted: {rule.wanted}"))
    return element("li", mark, texts)
