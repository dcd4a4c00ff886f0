"""Write the model card: a version's intended use, misuse, scores and origin."""

from collections.abc import Iterator, Mapping
from typing import Any

from mien.evaluation.metrics import wilson_interval
from mien.registry import promotion_log
from mien.registry.card import Card, Facts, Section, Table, percent, score

WATTS_A_CORE = 10
"""Assumed for the estimate of energy: package and memory of a busy server, shared out among its cores."""

TINY = 0.001
"""A p-value below this is shown as such."""

USES = (
    "Research and teaching about facial-expression classification, with its uncertainty.",
    "Sorting or searching pictures by the expression that they seem to show, where a person looks at the result.",
    "Comparing models and data under one protocol.",
)

MISUSES = (
    "Inferring emotions of people at work or in education. Article 5(1)(f) of Regulation (EU) 2024/1689 (the EU AI "
    "Act) has prohibited placing on the market, putting into service for that purpose, and using AI systems for it "
    "since 2 February 2025, except for medical or safety reasons. This model was not made or tested for either.",
    "Decisions about a person: hiring, grading, credit, insurance, policing, borders, health.",
    "Lie detection, diagnosis, or claims about what somebody feels, thinks or intends.",
    "Watching people who do not know of it or have not agreed.",
)

LAW = (
    "Elsewhere in the Union a system meant for emotion recognition is high-risk, as far as its use is permitted at all "
    "(Article 6(2) with Annex III, point 1(c)), and Article 50(3) obliges those who use one to inform the people "
    "exposed to it and to process their data under the General Data Protection Regulation and its sister acts (the "
    "duty to inform excepts systems that the law permits for detecting, preventing or investigating criminal "
    "offences). Recital 44 gives the reasons for the prohibition: the scientific basis is in doubt, for expression "
    "varies across cultures, situations and within one person, and such systems are of limited reliability, "
    "specificity and generality. This is a summary and no legal advice."
)

LIMITS = (
    "It names the expression that a face seems to show, out of seven. It does not know what the person feels, and has "
    "no answer for a mixed, weak, acted or other expression.",
    "How it differs between ages, genders, skin colours or cultures was not measured: the data do not tell.",
    "It sees one gray face of 48 × 48 pixels. What it does with profiles, covered, tiny or dark faces is known only "
    "where a section on robustness says so.",
)


def make(facts: Facts) -> Card:
    """Write the card of the version that the promotion gate evaluated."""
    promotion, evaluation = facts.promotion, facts.evaluation
    serves = bool(promotion["champion"]) and promotion["champion"]["version"] == promotion["version"]
    return Card(
        title=f"Model card: {evaluation['winner']}, version {promotion['version']} of {promotion['model']}",
        verdict="Champion" if serves else "Not promoted",
        good=serves,
        lead=promotion["reason"],
        sections=tuple(_sections(facts)),
    )


def summary(facts: Facts) -> str:
    """A few lines for the version's description in MLflow, which takes at most 5,000 characters."""
    test, data = facts.evaluation["test"], facts.evaluation["data"]["name"]
    drawn = " The faces are drawn: the numbers say nothing of real ones." if facts.synthetic else ""
    return (
        f"{facts.promotion['reason']}\n\n"
        f"Test split of {data}: accuracy {percent(test['accuracy'], test.get('accuracy_ci'))}, "
        f"macro-F1 {score(test['macro_f1'])}, ECE {score(test['ece'])}.{drawn}\n\n"
        "Not for inferring emotions at work or in education (Regulation (EU) 2024/1689, Article 5(1)(f)). "
        "The model card and the data card are artifacts of this version, in `cards/`."
    )[:5000]


def _sections(facts: Facts) -> Iterator[Section]:
    yield _short(facts)
    if facts.synthetic:
        drawn = "It was trained on drawn faces, to show that the pipeline works. It is for no use on people at all."
        yield Section("Intended use", [drawn])
    else:
        yield Section("Intended use", items=USES)
    yield Section("Misuse and the law", ["It must not be used for:"], MISUSES)
    yield Section("The EU AI Act", [LAW])
    yield Section("Limits", items=LIMITS)
    yield _results(facts)
    yield _recall(facts)
    yield from _opinions(facts)
    yield from _uncertain(facts)
    yield from _robustness(facts)
    yield _gate(facts)
    yield _training(facts)
    yield _lineage(facts)


def _short(facts: Facts) -> Section:
    evaluation, training, tested = facts.evaluation, facts.training, facts.promotion["scores"]["challenger"]
    runtime, served = evaluation.get("runtime", {}), evaluation["served"]
    rows = [
        ("input", "one gray face, 48 × 48 × 1, float32 in [0, 255]; scaling is inside the model"),
        ("answer", "seven probabilities: angry, disgust, fear, happy, sad, surprise, neutral"),
        (
            "network",
            _network(evaluation["winner"], training),
        ),
        ("file", f"ONNX, {tested['bytes']:,} bytes"),
        ("speed", f"{tested['milliseconds']:.2f} ms a face (median, one face at a time on one thread)"),
        ("runtime", f"{runtime['backend']}, {runtime['precision']}" if runtime else "not recorded"),
        ("test-time augmentation", served["description"]),
        ("temperature", f"{served['temperature']:.3f}, fitted on validation"),
        ("data", f"{evaluation['data']['name']}, described in the data card"),
    ]
    return Section("In short", table=Table(("", ""), rows))


def _network(family: str, training: Mapping[str, Any]) -> str:
    """Family name and parameters, with GMAC and distillation teachers where known."""
    size = f", {training['parameters']:,} parameters" if training else ""
    cost = f", {training['gmac']:.3f} GMAC a face" if "gmac" in training else ""
    teachers = ", ".join(training.get("distil", {}).get("teachers", {}))
    return family + size + cost + (f", distilled from {teachers}" if teachers else "")


def _results(facts: Facts) -> Section:
    test, winner = facts.evaluation["test"], facts.evaluation["winner"]
    result = {"test, whole split": test, "test, without images also in training": test["without_leaks"]}
    if "tta" in test:
        result[f"test, whole split, TTA: {test['tta']['description']}"] = test["tta"]
    validation = facts.evaluation["families"][winner]["validation"]
    if "before_temperature" in test:
        result["test, whole split, before calibration"] = {**test, **test["before_temperature"]}
    result["validation, without leaked images, before calibration"] = validation
    rows = [(name, *_scores(part)) for name, part in result.items()]
    text = (
        "Everything was chosen on validation; the test split was scored once, for the winner. Parentheses hold 95 % "
        "intervals: Wilson's for accuracy, bootstrap for macro-F1. UAR is the mean recall, ECE the calibration error. "
        "NLL and ECE are those of the probabilities that are served, after calibration by the temperature, except in "
        "the rows that say otherwise; accuracy, macro-F1 and UAR are the same before and after."
    )
    pictures = [
        (facts.plots / "confusion_matrix.png", "Confusion on the test split: row = actual emotion"),
        (facts.plots / "reliability.png", "Confidence against accuracy on the test split"),
    ]
    table = Table(("faces", "n", "accuracy", "macro-F1", "UAR", "NLL", "ECE"), rows)
    return Section(
        "Results", [text, *_seeds(facts)], table=table, pictures=[pair for pair in pictures if pair[0].is_file()]
    )


def _seeds(facts: Facts) -> Iterator[str]:
    """Test accuracy of each recipe that was trained with several seeds."""
    for group in facts.evaluation.get("seeds", ()):
        if "test" in group:
            parts = {"": group["test"], " without images also in training": group["test"]["without_leaks"]}
            result = " and ".join(
                f"{100 * part['accuracy']['mean']:.1f} ± {100 * part['accuracy']['sd']:.1f} %{where}"
                for where, part in parts.items()
            )
            seeds = ", ".join(map(str, group["seeds"]))
            yield f"The same recipe with the seeds {seeds}: test accuracy {result} (mean ± standard deviation)."


def _scores(part: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{part['n']:,}",
        percent(part["accuracy"], part.get("accuracy_ci")),
        score(part["macro_f1"], part.get("macro_f1_ci")),
        *(score(part[key]) for key in ("uar", "nll", "ece")),
    )


def _recall(facts: Facts) -> Section:
    test = facts.evaluation["test"]
    shares, support = test.get("recall", {}), test.get("support", {})
    rows = [
        (
            emotion,
            f"{support[emotion]:,}",
            percent(share, wilson_interval(round(share * support[emotion]), support[emotion])),
        )
        for emotion, share in shares.items()
    ]
    text = "Share of each emotion's faces that it names right, on the whole test split, with Wilson's 95 % interval."
    return Section(
        "Recall of each emotion", [text], table=Table(("emotion", "n", "recall"), rows, bars=[*shares.values()])
    )


def _robustness(facts: Facts) -> Iterator[Section]:
    found = facts.evaluation.get("robustness")
    if not found:
        return
    clean = found["clean"]
    rows = [
        (name, *(f"{one['accuracy']:.1%} ({one['level']})" for one in severities.values()))
        for name, severities in found["corruptions"].items()
    ]
    text = (
        f"Accuracy on {found['n']:,} faces ({found['split']}) that were damaged before it saw them, as it is served. "
        f"Undamaged it is {clean['accuracy']:.1%}. These numbers chose nothing."
    )
    words = list(next(iter(found["corruptions"].values())))
    picture = facts.plots / "robustness.png"
    pictures = (
        [(picture, "Accuracy by damage; the dashed line is that of undamaged faces")] if picture.is_file() else []
    )
    yield Section("Robustness", [text], table=Table(("damage", *words), rows), pictures=pictures)


def _opinions(facts: Facts) -> Iterator[Section]:
    found = facts.evaluation.get("ferplus")
    if not found:
        return
    names = {
        "fer2013": "the data's own label",
        "ferplus": "the label that most of FER+'s voters chose",
        "either": "either",
    }
    rows = [
        (
            result,
            *(percent(part[key]["accuracy"], part[key]["accuracy_ci"]) for part in (found, found["without_leaks"])),
        )
        for key, result in names.items()
    ]
    text = (
        f"People disagree about faces. On the {found['n']:,} test faces on which FER+'s voters settled "
        f"({found['unsettled']:,} are left out), the two labels agree on {found['labels_agree']:.1%}."
    )
    head = ("named right by", f"all {found['n']:,}", f"{found['without_leaks']['n']:,} not also in training")
    yield Section("A second opinion", [text], table=Table(head, rows))


def _uncertain(facts: Facts) -> Iterator[Section]:
    found = facts.evaluation.get("uncertain")
    if not found or found["accuracy"] is None:
        return
    text = (
        f"A face whose likeliest emotion has less than {found['below']:.0%} is answered `uncertain`. On the test split "
        f"{found['coverage']:.1%} of the faces are above that, and {percent(found['accuracy'], found['accuracy_ci'])} "
        "of those are named right."
    )
    if found["accuracy_of_uncertain"] is not None:
        text += f" Of the uncertain ones {found['accuracy_of_uncertain']:.1%} are."
    rows = [(f"{c['coverage']:.0%}", f"{c['accuracy']:.1%}", f"{c['confidence']:.2f}") for c in found["curve"]]
    table = Table(("faces answered, the surest first", "named right", "least confidence"), rows)
    yield Section("When it is unsure", [text], table=table)


def _gate(facts: Facts) -> Section:
    rows = [(one["rule"], "kept" if one["passed"] else "broken", one["message"]) for one in facts.promotion["rules"]]
    found = facts.promotion["comparison"]
    text = ["Models were scored on the validation faces without an exact copy in training, as they are served."]
    if found:
        old, (low, high) = facts.promotion["scores"]["champion"], found["interval"]
        p = f"{found['p_value']:.3f}" if found["p_value"] >= TINY else f"below {TINY}"
        text.append(
            f"Against the champion of that time ({old['family']}, {promotion_log.named(old['version'])}) on the same "
            f"{old['n']:,} faces: macro-F1 {found['gain']:+.4f} "
            f"(interval {low:+.4f} to {high:+.4f}), McNemar mid-p {p}."
        )
    return Section("The gate", text, table=Table(("rule", "verdict", "measured"), rows))


def _training(facts: Facts) -> Section:
    training = facts.training
    if not training:
        return Section("Training", ["No report of its training is at hand."])
    hardware, hours, rows_seen = training["hardware"], training["seconds"] / 3600, training["data"]["rows"]
    everything = sum(family["seconds"] for family in facts.evaluation["families"].values()) / 60
    rows = [
        (
            "time",
            f"{training['seconds'] / 60:.1f} min, {training['epochs']} epochs of {rows_seen:,} faces",
        ),
        ("all families together", f"{everything:.1f} min, without the searches"),
        ("machine", f"{hardware['processor']}, {hardware['cores']} cores, GPUs: {len(hardware['gpus']) or 'none'}"),
        ("precision", f"{training['precision']} on {hardware['backend']}"),
        ("energy", _energy(hardware, hours)),
    ]
    return Section("Training", table=Table(("", ""), rows))


def _energy(hardware: Mapping[str, Any], hours: float) -> str:
    if hardware["gpus"]:
        return "not metered, and not estimated: what its GPUs drew is unknown"
    watts = WATTS_A_CORE * hardware["cores"]
    return (
        f"about {watts * hours:.3g} Wh: not metered, but {hardware['cores']} cores at an assumed {WATTS_A_CORE} W each "
        f"for {hours:.2f} h, this family's training only. For carbon, multiply by your grid's intensity."
    )


def _lineage(facts: Facts) -> Section:
    known = facts.lineage
    rows = [
        ("MLflow run", facts.promotion["run_id"]),
        ("Git commit", known.get("git.commit", "unknown")),
        ("dvc.lock, stages up to evaluate", known.get("dvc.lock", "unknown")),
        ("data digest", known.get("data.digest", "unknown")),
        ("SHA-256 of the file", known.get("onnx_sha256", "unknown")),
    ]
    command = f"The command mien lineage {facts.promotion['version']} tells the rest, Bentos included."
    return Section("Lineage", [command], table=Table(("", ""), rows, code=True))
