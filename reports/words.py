"""Numbers to words: how values, differences and spans are written, and the sentences of page one."""

from __future__ import annotations

import math
from collections.abc import Iterable

from common.errors import listing, told_of_all
from evals.results import metrics
from reports.compared import Difference, Differences, Where, foremost
from reports.effort import effort
from reports.estimates import Column, Estimate, columns, of_column, other_dense, primary
from reports.run_folder import Run, gaps

PLACES: dict[Where, str] = {"steps": "equal steps", "images": "equal images", "flops": "equal FLOPs",
                            "seconds": "equal seconds", "ends": "the end of each"}  # fmt: skip
MINUS, NONE, JOIN = "\u2212", "\u2013", "\u00a0"  # JOIN: a space at which no line breaks

DEGREE = "°"  # metres and health have three digits that tell, degrees as percent one


def scale(column: Column) -> float:
    """Factor from stored to shown values."""
    return 100.0 if column.is_share else 1.0


def unit(column: Column) -> str:
    return "%" if column.is_share else column.kind.unit


def difference_unit(column: Column) -> str:
    return "points" if column.is_share else column.kind.unit


def fall_scale(column: Column) -> tuple[float, int, str]:
    """Factor, digits and unit in which a fall is shown: a share of the peak, or as a difference where it is none."""
    if column.kind.ratio:
        return 100.0, 1, "% of the peak"
    return scale(column), digits(column), difference_unit(column)


def arrow(column: Column) -> str:
    """Towards what is better."""
    return metrics.arrow(higher=column.kind.higher_is_better)


def hint(column: Column) -> str:
    """Which side is better; of a sign of health, which is thought to be."""
    higher = column.kind.higher_is_better
    if column.kind.kind == "health":
        return f"{'higher' if higher else 'lower'} is thought better"
    return metrics.side(higher=higher)


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """Fixed decimals with a true minus sign; a rounded zero bears no minus."""
    if not math.isfinite(value):
        return NONE
    text = f"{abs(value):.{digits}f}"
    zero = float(text) == 0
    sign = MINUS if value < 0 and not zero else "+" if signed and not zero else ""
    return sign + text


def digits(column: Column) -> int:
    return 1 if column.is_share or column.kind.unit == DEGREE else 3


def value(column: Column, estimate: Estimate) -> str:
    return number(estimate.value * scale(column), digits(column))


def half_width(column: Column, estimate: Estimate) -> str:
    """ "± 1.6", or the empty string without an interval."""
    half = (estimate.high - estimate.low) / 2 * scale(column)
    return f"± {number(half, digits(column))}" if math.isfinite(half) else ""


def amount(column: Column, estimate: Estimate) -> str:
    """A difference: "+3.1", or "+0.004" where fewer digits would show nothing of what its interval tells from zero."""
    return number(estimate.value * scale(column), _telling(column, estimate), signed=True)


def bracket(column: Column, estimate: Estimate) -> str:
    """ "[+1.9, +4.2]", or the empty string without an interval."""
    ends = (estimate.low * scale(column), estimate.high * scale(column))
    if not all(map(math.isfinite, ends)):
        return ""
    return "[" + f",{JOIN}".join(number(end, _telling(column, estimate), signed=True) for end in ends) + "]"


def correlation(value: float, low: float, high: float) -> str:
    """ "+0.71 [+0.60, +0.82]", or the value alone where it has no interval."""
    ends = f" [{number(low, 2, signed=True)}, {number(high, 2, signed=True)}]" if math.isfinite(low) else ""
    return f"{number(value, 2, signed=True)}{ends}"


def difference(column: Column, estimate: Estimate) -> str:
    """ "+3.1 [+1.9, +4.2]" """
    return f"{amount(column, estimate)} {bracket(column, estimate)}".strip()


def _telling(column: Column, estimate: Estimate) -> int:
    usual, size = digits(column), abs(estimate.value) * scale(column)
    if not estimate.excludes_zero or size * 10**usual >= 0.5:
        return usual
    return min(-math.floor(math.log10(size)), usual + 3) if size else usual


def change(column: Column, estimate: Estimate) -> str:
    """ "+3.1 points [+1.9, +4.2]" """
    measure = difference_unit(column)
    return JOIN.join(part for part in (amount(column, estimate), measure, bracket(column, estimate)) if part)


def asked(run: Run) -> list[tuple[str, str]]:
    """What stands below the question, as label and text; nothing where the record says nothing."""
    weights = run.config.get("trunk", {}).get("checkpoint")
    begins = [f"begins from the weights {weights}"] if weights else []
    trained = " · ".join([*begins, *told_of_all(run.trained)])  # its lines hold semicolons
    known = [("Source", run.source), ("Expected", run.expected), ("Trained", trained), ("Cost, by its file", run.cost)]
    return [(label, text) for label, text in known if text]


def leading(run: Run) -> list[Column]:
    """The columns that stand for dense and global quality, and the other dense one; fewer where a run has fewer."""
    dense = primary(run, "dense")
    found = (dense, primary(run, "global"), other_dense(run, dense))
    return [column for column in found if column is not None]


def leading_or_first(run: Run) -> list[Column]:
    """The leading columns or, of a run that has none, its first ones: three at most."""
    return leading(run) or columns(run)[:3]


def headline(run: Run, compared: Differences, *, most: int = 99) -> list[str]:
    """One sentence per arm: its difference from the baseline in the leading dense and global measures.

    Of more than `most` those go first whose differences stand in the results table, too: at equal steps.
    """
    first = leading_or_first(run)[: 3 if len(run.others) <= 3 else 2]
    alike, unlike, unseen = list[str](), list[str](), list[str]()
    baseline = run.baseline if len(run.baseline) <= 24 else "the baseline"
    for arm in run.others:
        parts = [one for column in first if (one := foremost(run, compared, column, arm))]
        if not parts:
            unseen.append(arm)
            continue
        places = {place(one) for one in parts}
        when = f" {places.pop()}" if len(places) == 1 else ""
        said = "; ".join(in_words(run, one, dated=not when) for one in parts)
        if any((column, arm, "steps") in compared for column in first):
            alike.append(f"{arm} vs {baseline}{when}: {said}")
        else:
            unlike.append(f"{arm} vs {baseline}, no equal step,{when}: {said}")
    if unseen:
        unlike.append(f"{', '.join(unseen)} vs {baseline}: no step behind their start was evaluated for both")
    few = max(most - len(unlike), 2)
    return sentence_list(alike, most=few, where=" in the table") + sentence_list(unlike, most=max(most - few, 2))


def place(one: Difference) -> str:
    """ "at step 400", or "at equal FLOPs (3.1 PFLOP; steps 300, 400)", those of the arm and of the baseline."""
    if one.measure == "steps":
        return f"at step {one.step}"
    both = f"steps {one.step}, {one.baseline_step}"
    return f"at {PLACES[one.measure]} ({both if one.measure == 'ends' else f'{budget(one)}; {both}'})"


def budget(one: Difference) -> str:
    """What both have used, as people say it: "12,800 images", "3.1 PFLOP", "12 min"; at their ends it is not equal."""
    if one.measure == "ends":
        return NONE
    if one.measure == "seconds":
        return span(one.budget)
    return operations(one.budget) if one.measure == "flops" else f"{count(one.budget)} {one.measure}"


def operations(flops: float) -> str:
    """ "3.1 PFLOP" """
    size, letter = next((at for at in ((1e18, "E"), (1e15, "P"), (1e12, "T")) if flops >= at[0]), (1e9, "G"))
    return f"{flops / size:.3g} {letter}FLOP"


def in_words(run: Run, one: Difference, *, dated: bool) -> str:
    """A difference in a sentence; `dated`: with where it was measured."""
    alike = {other.dataset for other in columns(run) if other.title == one.column.title}
    on = f" on {one.column.dataset}" if len(alike) > 1 else ""
    lower = "" if one.column.kind.higher_is_better else " (lower is better)"
    when = f" {place(one)}" if dated else ""
    verdict = f", {one.verdict.word}" if one.verdict and one.verdict.word != "too few seeds" else ""
    verdict += f" of {margin(one)}" if verdict.endswith("margin") else ""
    return f"{one.column.title}{on} {change(one.column, one)}{lower}{when}{verdict}"


def margin(one: Difference) -> str:
    """ "1.0 points", or a dash where there is none."""
    if one.verdict is None or not one.verdict.margin:
        return NONE
    places = digits(one.column) + (one.column.is_share and one.verdict.margin < 0.001)
    amount = number(one.verdict.margin * scale(one.column), places)
    return JOIN.join(filter(None, [amount, difference_unit(one.column)]))


def comparisons(shown: Iterable[Difference]) -> str:
    """ "2 comparisons of a metric", of which the words of each are corrected for; "" where there is one at most."""
    made = sorted({one.verdict.comparisons for one in shown if one.verdict})
    return f"{' or '.join(map(str, made))} comparisons of a metric" if max(made, default=0) > 1 else ""


def interval_note(run: Run, compared: Differences) -> str:
    """What the brackets and the words mean in this run, in a few sentences."""
    shown = [one for (column, arm, _), one in compared.items() if one is foremost(run, compared, column, arm)]
    over, seeds = {one.over for one in shown}, max((one.seeds for one in shown), default=1)
    said = [f"Arms are compared with {run.baseline} alone."] if len(run.others) > 1 else []
    if "seeds and images" in over:
        said.append(f"Brackets: 95 % intervals over {seeds} seeds and the evaluation images, paired by both.")
        if families := comparisons(shown):
            said.append(f"Words: corrected over {families} (Holm); brackets are each arm's own.")
    if "seeds" in over:
        said.append(
            f"Brackets: 95 % intervals over {seeds} seeds alone: no outcomes of images were kept, so no verdict."
        )
    if "images" in over:
        said.append(
            "Brackets: 95 % intervals over evaluation images only (one seed, paired by image), silent about other "
            "seeds. One seed is too few for a verdict."
        )
    if over == {""}:
        said.append("No interval can be given for the differences: one seed and no per-image outcomes.")
    return " ".join(said)


def incomplete(run: Run) -> list[str]:
    """What is missing from the run, one sentence each: unfinished arms, strangers, measures not taken."""
    strangers = sorted({row.arm for row in run.rows} - set(run.lanes))
    found = gaps(run)
    if strangers:
        found.append(f"rows of arms that experiment.json does not name are left out: {', '.join(strangers)}")
    return found + [sentence for column in columns(run) for sentence in _holes(run, column)]


def briefly(sentences: Iterable[str]) -> list[str]:
    """What is missing, each of it with the first few whom it is missing of."""
    parts = (sentence.partition(": ") for sentence in sentences)
    return [listing(who.split(", "), most=4) + colon + what for who, colon, what in parts]


def _holes(run: Run, column: Column) -> list[str]:
    """Arms that were evaluated, but not in this column, or not to a finite number."""
    rows, evaluated = of_column(run, column, finite=False), {row.arm for row in run.rows}
    name = f"{column.title} on {column.dataset} ({column.version})"
    sentences = []
    for arm in run.arms:
        steps = sorted({row.step for row in rows if row.arm == arm and not math.isfinite(row.value)})
        if steps:
            listed = ", ".join(map(str, steps[:4])) + (" …" if len(steps) > 4 else "")
            sentences.append(f"{arm}: {name} is not a finite number at step {listed}")
        elif arm in evaluated and not any(row.arm == arm for row in rows):
            sentences.append(f"{arm}: {name} was not measured")
    return sentences


def span(seconds: float | None) -> str:
    """A duration a person can read: "48 s", "12 min", "3 h 20 min"."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def count(amount: float | None) -> str:
    """An integer with thin spaces between thousands."""
    return NONE if amount is None or not math.isfinite(amount) else f"{amount:,.0f}".replace(",", "\u202f")


def effort_cells(run: Run, lane: str) -> list[tuple[str, str]]:
    """Steps and images seen, wall time and operations, images per second and peak memory, as the table has them."""
    spent = effort(run, lane)
    speed, memory = spent.images_per_second, spent.peak_memory_gib
    return [
        (count(spent.step), count(spent.images) if spent.images is not None else ""),
        (span(spent.seconds), operations(spent.flops) if spent.flops is not None else ""),
        (
            NONE if speed is None else number(speed, 0 if speed >= 100 else 1),
            f"{number(memory, 1)}{JOIN}GiB" if memory is not None else "",
        ),
    ]


def sentence_list(items: Iterable[str], *, most: int, where: str = "") -> list[str]:
    """At most `most` items; the rest is counted in a last one, which says `where` they are."""
    listed = list(items)
    return listed if len(listed) <= most else [*listed[: most - 1], f"and {len(listed) - most + 1} more{where}"]
