"""Validate the evidence against all expectations in one Great Expectations checkpoint."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from mien.data.quality.evidence import Evidence
from mien.data.quality.expectations import Expectation
from mien.emotions import EMOTIONS

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.expectations.expectation import Expectation as Native

FIRST_ROWS = 10

QUANTILES = "ExpectColumnQuantileValuesToBeBetween"


@dataclass(frozen=True)
class Outcome:
    """Result of one expectation; `rows` are the first failing images, by origin (and origin of the copy)."""

    expectation: Expectation
    success: bool
    observed: float | str | None
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """The outcome of every expectation, and Great Expectations' own results by table, for its Data Docs."""

    outcomes: Sequence[Outcome]
    native: Mapping[str, "ExpectationSuiteValidationResult"] = field(repr=False)

    def failed(self, severity: str) -> list[Outcome]:
        """Return the failures of one severity."""
        return [o for o in self.outcomes if not o.success and o.expectation.severity == severity]


def run(expectations: Sequence[Expectation], evidence: Evidence) -> Result:
    """Validate every expectation; one that cannot be computed counts as failed."""
    gx = _library()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("prepared")
    native = {}
    for table, frame in (("images", evidence.images), ("groups", evidence.groups)):
        suite = gx.ExpectationSuite(table, expectations=[_native(e) for e in expectations if e.table == table])
        batch = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe("all")
        definition = gx.ValidationDefinition(name=table, data=batch, suite=context.suites.add(suite))
        checkpoint = gx.Checkpoint(
            name=table,
            validation_definitions=[context.validation_definitions.add(definition)],
            result_format={
                "result_format": "SUMMARY",
                "partial_unexpected_count": FIRST_ROWS,
                "unexpected_index_column_names": ["origin", "twin"] if table == "images" else ["group"],
            },
        )
        results = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame})
        (native[table],) = results.run_results.values()
    return Result(_outcomes(expectations, native, evidence), native)


def _library() -> Any:
    # Its telemetry setting is read at import, and some of its modules use deprecated parts of others.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx
    return gx


def _native(expectation: Expectation) -> "Native":
    from great_expectations import expectations as kinds
    from great_expectations.expectations.conditions import Column

    kind = _quantiles() if expectation.kind == QUANTILES else getattr(kinds, expectation.kind)
    condition: Any = None
    for column, value in expectation.where.items():
        part = Column(column) == value
        condition = part if condition is None else condition & part
    native: Native = kind(
        **expectation.options,
        **({} if condition is None else {"row_condition": condition}),
        severity=expectation.severity,
        description=f"{expectation.name} ({expectation.severity}): {expectation.expected}",
        meta={"name": expectation.name},
    )
    return native


@cache
def _quantiles() -> type["Native"]:
    """The native quantile expectation with plain bools in its result: its result store cannot write NumPy's."""
    from great_expectations import expectations as kinds

    class ExpectColumnQuantilesToBeWithinBands(kinds.ExpectColumnQuantileValuesToBeBetween):  # type: ignore[misc]
        def _validate(self, *arguments: Any, **options: Any) -> Any:
            answer = super()._validate(*arguments, **options)
            details = answer["result"]["details"]
            details["success_details"] = [bool(success) for success in details["success_details"]]
            return {**answer, "success": bool(answer["success"])}

    return ExpectColumnQuantilesToBeWithinBands


def _outcomes(
    expectations: Sequence[Expectation], native: Mapping[str, "ExpectationSuiteValidationResult"], evidence: Evidence
) -> list[Outcome]:
    found: dict[str, Any] = {}
    for results in native.values():
        for result in results.results:
            value = result.result.get("observed_value")
            # Great Expectations renders numbers by their repr, which NumPy's no longer are.
            result.result |= {"observed_value": value.item()} if hasattr(value, "item") else {}
            found[result.expectation_config.meta["name"]] = result
    outcomes = []
    for expectation in expectations:
        result = found[expectation.name]
        rows: tuple[str, ...] = ()
        if not result.success and expectation.kind == QUANTILES:
            rows = _outside(expectation, evidence)
        elif not result.success:
            rows = tuple(map(_row, result.result.get("partial_unexpected_index_list") or []))
        outcomes.append(Outcome(expectation, bool(result.success), _observed(result), rows))
    return outcomes


def _outside(expectation: Expectation, evidence: Evidence) -> tuple[str, ...]:
    """Name the first images beyond the outermost quantiles, as Great Expectations lists no rows for quantiles."""
    ranges = expectation.options["quantile_ranges"]["value_ranges"]
    members = evidence.images[evidence.images["group"] == expectation.where["group"]]
    inside = members[expectation.options["column"]].between(ranges[0][0], ranges[-1][1])
    return tuple(members["origin"][~inside].head(FIRST_ROWS))


def _observed(result: Any) -> float | str | None:
    """Return a number where there is one, else a phrase."""
    error = result.exception_info
    if error and error.get("raised_exception", True):
        return f"not computed: {error.get('exception_message') or error}"
    content = result.result
    if "unexpected_count" in content and "element_count" in content:
        return f"{content['unexpected_count']:,} of {content['element_count']:,} rows differ"
    value = content.get("observed_value")
    if isinstance(value, Mapping):
        pairs = zip(value["quantiles"], value["values"], strict=True)
        return "; ".join(f"{q:.0%}: {v:.1f}" for q, v in pairs)
    if isinstance(value, list):
        labels = result.expectation_config.kwargs.get("column") == "emotion"
        return ", ".join(EMOTIONS[one] if labels and one in range(len(EMOTIONS)) else str(one) for one in value)
    return None if value is None else float(value)


def _row(row: Mapping[str, Any]) -> str:
    origin = str(row.get("origin", row.get("group")))
    return f"{origin} (copy of {row['twin']})" if row.get("twin") else origin
