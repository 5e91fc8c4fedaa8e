"""The quality benchmark: verdicts by hand, tables on made-up units, one unit for real."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import quality  # noqa: E402
import quality_claims  # noqa: E402
import quality_tables as tables  # noqa: E402
from quality_bench import Unit  # noqa: E402
from quality_units import run_unit  # noqa: E402
from quality_verdicts import (  # noqa: E402
    AGREES,
    DISAGREES,
    UNTOLD,
    Estimate,
    claim,
    estimate,
    verdict,
    void_reason,
)
from quality_voices import Setup, make_demos, make_persona, make_requests  # noqa: E402

from ditto_hub.config import preset  # noqa: E402
from ditto_hub.evaluation.guidance import FIGURES, MEASURED, write_figures  # noqa: E402
from ditto_hub.pocket.grammar import grammar_hash  # noqa: E402
from ditto_hub.pocket.persona import REPORTING_SEEDS, TUNING_SEEDS, Persona  # noqa: E402


def found(low: float, high: float) -> Estimate:
    """Return an estimate with this interval."""
    return Estimate((low + high) / 2, low, high, 3, 3)


# ---- verdicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "bar", "above", "said"),
    [
        (0.1, 0.3, 0.0, True, AGREES),
        (-0.3, -0.1, 0.0, True, DISAGREES),
        (-0.1, 0.1, 0.0, True, UNTOLD),
        (0.0, 0.2, 0.0, True, UNTOLD),
        (-0.3, -0.1, 0.0, False, AGREES),
        (0.1, 0.3, 0.0, False, DISAGREES),
        (-0.1, 0.1, 0.0, False, UNTOLD),
        (0.55, 0.7, 0.5, True, AGREES),
        (0.3, 0.45, 0.5, True, DISAGREES),
        (0.3, 0.45, 0.5, False, AGREES),
        (0.45, 0.55, 0.5, False, UNTOLD),
    ],
)
def test_a_verdict_is_where_the_whole_interval_lies(
    low: float, high: float, bar: float, above: bool, said: str
) -> None:
    """On the claimed side of the bar: agrees; on the other: disagrees; across it: cannot tell."""
    assert verdict(found(low, high), bar, above) == said


@pytest.mark.parametrize("nothing", [None, Estimate(0.4, None, None, 1, 3)])
def test_one_persona_tells_nothing(nothing: Estimate | None) -> None:
    """Without an interval there is no verdict."""
    assert verdict(nothing) == UNTOLD


def test_an_estimate_counts_personas_alike() -> None:
    """Two personas with means 0.5 and 1: mean .75, Student's t 12.706 x .25 either side."""
    mine = estimate([(1, 0.0), (1, 1.0), (2, 1.0)])
    assert mine is not None
    assert (mine.mean, mine.personas, mine.runs) == (0.75, 2, 3)
    assert mine.high == pytest.approx(0.75 + 12.706 * 0.25)


def test_twelve_personas_get_a_bootstrap() -> None:
    """From ten clusters on the interval stays within the values."""
    mine = estimate([(p, float(p % 2)) for p in range(12)])
    assert mine is not None
    assert 0 < (mine.low or 0) < 0.5 < (mine.high or 0) < 1


def test_a_claim_without_values_is_none() -> None:
    """What was not run is left out and never called undecided."""
    assert claim("x", "-", []) is None


@pytest.mark.parametrize(("lift", "void"), [(0.31, False), (0.3, False), (0.29, True)])
def test_the_table_is_void_unless_few_shot_lifts(lift: float, void: bool) -> None:
    """Few-shot's persona score has to be at least .3 above zero-shot's."""
    assert bool(void_reason(Estimate(lift, 0.0, 1.0, 3, 3))) is void


# ---- tables on made-up units ---------------------------------------------------------------------


def marks(total: float, texts: list[float] | None = None) -> dict[str, Any]:
    """Return marks as a unit holds them."""
    names = ("persona", "content", "total", "whole", "habit_distance", "length")
    return {**dict.fromkeys(names, total), "texts": texts or [total] * 2}


def unit(arm: str, truth: dict[str, float], **more: Any) -> dict[str, Any]:
    """Return a unit's result."""
    setup = Setup(200_010, more.pop("seed", 0), **more.pop("change", {}))
    return {
        "setup": dict(setup.__dict__),
        "arm": arm,
        "settings": [],
        "config": preset("pocket", setup.seed).to_json(),
        "grammar_hash": grammar_hash(),
        "truth": {name: marks(total) for name, total in truth.items()},
        **more,
    }


def scores(style: float, loss: float) -> dict[str, Any]:
    """Return a candidate's scores as selection reads them."""
    return {"style_distance": style, "held_out_loss": loss, "degenerate": ""}


MAIN = {"author": 1.0, "zero-shot": 0.2, "few-shot": 0.6, "sft": 0.5, "sft-long": 0.7}
MAIN |= {"round-1": 0.4, "round-2": 0.65}
SCORES = {"sft": scores(0.3, 0.5), "round-1": scores(0.2, 0.4), "round-2": scores(0.2, 0.3)}
SCORES |= {"sft-long": scores(0.1, 0.9)}


def main_unit(**more: Any) -> dict[str, Any]:
    """Return a main run's result."""
    return unit("main", MAIN, scores=SCORES, order=[], texts_a_prompt=1, **more)


def test_ditto_is_the_last_round_and_kept_what_the_rule_keeps() -> None:
    """Arms of one setup make one cell, under the table's names."""
    cell, *others = tables.gather([main_unit(), unit("spin", {"spin": 0.3})])
    assert not others
    assert cell.truth["ditto"]["total"] == 0.65
    assert cell.truth["kept"]["total"] == 0.65
    assert cell.truth["spin"]["total"] == 0.3


def test_regret_is_what_the_best_candidate_would_have_given_more() -> None:
    """Style keeps sft-long, the best; held-out loss keeps round-2, .05 worse."""
    rows = {row.rule: row for row in tables.rule_rows(tables.gather([main_unit()]))}
    assert (rows["stylometric"].regret.mean, rows["stylometric"].picks_best) == (0.0, 1.0)
    assert rows["held-out"].regret.mean == pytest.approx(0.05)
    assert rows["always sft"].regret.mean == pytest.approx(0.2)


def test_regret_counts_the_best_on_prompts_that_did_not_name_it() -> None:
    """One is best on the first half by luck and .4 worse on the second; there b is even."""
    luck = {"kept": marks(0.5, [0.5, 0.5]), "a": marks(0.5, [0.9, 0.1])}
    main = {"scores": {"a": {}, "b": {}}, "texts_a_prompt": 1}
    cell = tables.Cell({"persona": 1}, luck | {"b": marks(0.5, [0.5, 0.5])}, main)
    assert tables.halves_regret(cell) == pytest.approx(-0.2)


def test_pairs_are_judged_text_by_text() -> None:
    """Equal totals are a tie, and the wins are counted by hand: one win, one tie."""
    cell = tables.Cell({"persona": 1}, {"a": marks(0, [0.9, 0.5]), "b": marks(0, [0.1, 0.5])})
    rate = tables.wins([cell], "a", "b", ("a", "b"))
    assert (rate.wins, rate.ties, rate.losses, rate.rate) == (1, 1, 0, 0.75)


def test_setups_are_compared_persona_by_persona() -> None:
    """Seven demonstrations against four, on the same persona and seed."""
    units = [main_unit(), main_unit(change={"given": 8}), main_unit(change={"given": 8}, seed=1)]
    units[1]["truth"]["round-2"] = marks(0.75)
    cells = tables.gather(units)
    pairs = quality_claims.across(cells, {"given": 8}, {"given": 5})
    assert pairs == [(200_010, pytest.approx(0.1))]


def test_every_claim_says_what_its_n_is() -> None:
    """The verdicts of one persona are all open."""
    cells = tables.gather([main_unit(), unit("spin", {"spin": 0.3})])
    told = quality_claims.claims(cells)
    assert {c.found.personas for c in told} == {1}
    assert {c.verdict for c in told} == {UNTOLD}
    assert "DITTO beats spin" in [c.name for c in told]


def test_a_changed_grammar_is_refused(tmp_path: Path) -> None:
    """Results of another grammar are not read beside these."""
    (tmp_path / "a.json").write_text(json.dumps({**main_unit(), "grammar_hash": "x"}))
    with pytest.raises(SystemExit, match="another grammar"):
        tables.read_units(tmp_path)


def test_results_of_several_settings_are_refused(tmp_path: Path) -> None:
    """A folder holds one experiment."""
    (tmp_path / "a.json").write_text(json.dumps(main_unit()))
    other = main_unit(seed=1)
    other["config"]["update"]["beta"] = 0.5
    (tmp_path / "b.json").write_text(json.dumps(other))
    with pytest.raises(SystemExit, match="several settings"):
        tables.read_units(tmp_path)


def test_a_committed_file_tells_what_the_folder_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables are counted from the committed units again, to the last digit."""
    monkeypatch.setattr(quality, "RESULTS", tmp_path)
    units = [main_unit(), unit("spin", {"spin": 0.3})]
    told = quality.tell(units)
    quality.commit(units, "made-up", told)
    assert quality.tell(tables.read_units(tmp_path / "made-up.json")) == told


def test_users_are_told_what_the_committed_results_say() -> None:
    """The package's regimes are counted from the committed units, to the last digit."""
    source = json.loads(FIGURES.read_text("utf-8"))["source"]
    cells = tables.gather(tables.read_units(BENCHMARKS.parent / source))
    assert tables.measured_regimes(cells) == MEASURED


def test_figures_are_written_as_they_are_committed(tmp_path: Path) -> None:
    """Writing what is read gives the package's own file, byte for byte."""
    source = json.loads(FIGURES.read_text("utf-8"))["source"]
    write_figures(MEASURED, source, tmp_path / "figures.json")
    assert (tmp_path / "figures.json").read_bytes() == FIGURES.read_bytes()


# ---- voices --------------------------------------------------------------------------------------


def test_the_full_plan_uses_reporting_personas_nobody_looked_at() -> None:
    """Twelve, none of those that earlier results were about, three seeds each."""
    plan = quality.full_plan(quality.FIRST["reporting"])
    main = {
        (s.persona, s.seed) for s, arm in plan if arm == "main" and s == Setup(s.persona, s.seed)
    }
    personas = {p for p, _ in main}
    assert len(personas) == 12
    assert personas <= set(REPORTING_SEEDS[24:])
    assert {(p, s) for p in personas for s in range(3)} == main
    assert len(set(plan)) == len(plan)
    assert {s.persona for s, _ in quality.tune_plan(quality.FIRST["tuning"])} <= set(TUNING_SEEDS)


def test_the_wide_plan_is_the_full_one_and_more() -> None:
    """It begins with it, so its results are counted in both."""
    full, wide = quality.full_plan(200_012), quality.wide_plan(200_012)
    assert wide[: len(full)] == full
    assert len(set(wide)) == len(wide) > len(full)


def test_a_template_voice_has_one_option_a_trait() -> None:
    """And a varied one has several, a persona's own among them."""
    own = Persona.from_seed(200_010)
    template = make_persona(Setup(200_010, 0, voice="template"))
    varied = make_persona(Setup(200_010, 0, voice="varied"))
    assert {len(h.options) for h in template.habits.values()} == {1}
    assert all(
        set(own.habits[t].options) <= set(h.options) and sum(h.options.values()) == pytest.approx(1)
        for t, h in varied.habits.items()
    )


@pytest.mark.parametrize("quality_name", ["noisy", "off-voice", "truncated"])
def test_damage_leaves_the_held_out_demonstration_alone(quality_name: str) -> None:
    """Two training demonstrations change, nothing else."""
    clean, spoilt = (make_demos(Setup(200_010, 0, quality=q), 1) for q in ("clean", quality_name))
    changed = [a.split for a, b in zip(clean, spoilt, strict=True) if a != b]
    assert changed == ["train", "train"]


def test_more_demonstrations_begin_with_the_fewer() -> None:
    """And none of them is asked for again."""
    few, many = (make_demos(Setup(200_010, 0, given=n), 1) for n in (2, 8))
    assert [d.completion for d in few] == [d.completion for d in many][:2]
    asked = {r.prompt for r in make_requests(Setup(200_010, 0), 12)}
    assert not asked & {d.prompt[-1]["content"] for d in many}


# ---- one unit, for real --------------------------------------------------------------------------

SMALL = ("update.rounds=1", "update.steps=1", "update.pairs=2", "sampling.samples=1")
SMALL += ("warm_start.max_steps=1", "selection.samples=1", "selection.sft_long=false")


def test_an_arm_goes_on_from_the_main_runs_state(tmp_path: Path) -> None:
    """The state kept by one arm serves another, and a repeated unit gives the same marks."""
    arm = Unit(Setup(100_050, 0), "ablation:once", SMALL, tmp_path)
    run_unit(arm)
    kept = (tmp_path / "state" / "100050-0.sampling-0.safetensors").read_bytes()
    first = json.loads(arm.path.read_text())["truth"]
    run_unit(arm)
    assert json.loads(arm.path.read_text())["truth"] == first
    assert (tmp_path / "state" / "100050-0.sampling-0.safetensors").read_bytes() == kept
    assert set(first) == {"ablation:once"}


def test_the_scripts_head_says_n_beforehand() -> None:
    """What `--help` prints names how many personas and seeds there will be."""
    assert "12 personas x 1 seed" in str(quality.__doc__)
