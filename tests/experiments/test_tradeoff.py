"""The command ``tradeoff``: one fit, several dislike aversions."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import check_command_refused, outcome, printed
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from result_tables import front_table
from signed_report.results import standings

from recbole_signed import progress
from recbole_signed.cli import analysis
from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.lab.analysis import tradeoff
from recbole_signed.lab.analysis import tradeoff_curve as module
from recbole_signed.lab.analysis.tradeoff_curve import (
    can_trade_off,
    draw_tradeoff,
    parse_aversions,
    read_curves,
)
from recbole_signed.lab.analysis.tradeoff_tables import matched_table, splits_table, tradeoff_table
from recbole_signed.runs import data_sha256
from recbole_signed.runs import fitted as fitting
from recbole_signed.runs.spec import asked_models
from recbole_signed.table import to_text

MEASURED: dict[str, Any] = {
    "metrics": ["Recall", "NDCG", "DislikeRecall", "DislikeShare", "SignAUC", "SignedNDCG"],
    "topk": [5],
    "valid_metric": "NDCG@5",
    "metric_decimal_place": 6,
}
FIXED = {"auto": False, "rank": 8, "cutoff": 4, "state": "ERROR"}
WORDS = ("auto=False", "rank=8", "cutoff=4", "state=ERROR")


def test_each_point_is_the_run_with_that_aversion(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole_signed.runs import run
    from recbole_signed.ssf import SpectralFilter

    fits, fit = [], SpectralFilter.fit
    monkeypatch.setattr(SpectralFilter, "fit", lambda *args, **words: fits.append(1) or fit(*args, **words))
    found = tradeoff("SSF", toy, (0.0, 1.5), 5, overrides=FIXED)
    assert len(fits) == 1
    assert found["chosen"] == 0
    for point in found["points"]:
        alone = {**FIXED, **MEASURED, "dislike_aversion": point["dislike_aversion"]}
        row = run("SSF", toy, overrides=alone, save=False)
        assert row.test == {name: value for name, value in point.items() if name != "dislike_aversion"}
    first, last = found["points"]
    assert last["dislikerecall@5"] <= first["dislikerecall@5"]
    assert last["signauc"] > first["signauc"]


def test_the_table_the_document_and_the_curve(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("tradeoff", "-m", "SSF", "-d", toy, "--g", "1,0,0.5", "--k", "5", *WORDS, "dislike_aversion=0.5")
    lines = printed(capsys, *words).splitlines()
    head = next(number for number, line in enumerate(lines) if line.split()[:1] == ["g"])
    assert lines[head].split()[:3] == ["g", "recall@5", "ndcg@5"]
    assert [line.split()[0] for line in lines[head + 2 : head + 5]] == ["0", "0.5*", "1"]
    assert Path("runs/tradeoff/SSF-toy-signed.png").stat().st_size > 5_000
    document = json.loads(printed(capsys, *words, "--json", "--no-figures", "--output", "there"))
    assert document["files"] == ["there/SSF-toy-signed.json"]
    assert json.loads(Path("there/SSF-toy-signed.json").read_text())["points"] == document["points"]
    assert [point["dislike_aversion"] for point in document["points"]] == [0, 0.5, 1]


def test_without_matplotlib_the_numbers_still_come(
    toy: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, out, err = outcome(capsys, "tradeoff", "-d", toy, "--g", "0", "--k", "5", *WORDS)
    assert (status, "recall@5" in out, "recbole-signed[plots]" in err) == (0, True, True)
    assert Path("runs/tradeoff/SSF-toy-signed.json").is_file()


def test_models_are_named_and_chosen_as_tables_print_them(toy: str) -> None:
    assert list(asked_models(["ssf-t", "EASE", "SSF-L"], toy, bool)) == ["SSFT", "EASE", "SSFL"]
    assert tradeoff("ssf-l", toy, (0.0,), 5, overrides=FIXED)["model"] == "SSFL"
    everything = asked_models(["all"], toy, can_trade_off)
    assert {"SSF", "SSFL", "EASE", "LightGCN", "Pop", "SIGformer"} <= set(everything)
    assert "Random" not in everything
    assert list(asked_models(["SSF", "EASE", "SSF"], toy, can_trade_off)) == ["SSF", "EASE"]
    first = asked_models(["Random", "EASE", "all"], toy, can_trade_off)
    assert list(first) == ["Random", "EASE", *(name for name in everything if name != "EASE")]


def test_what_is_wrong_is_said(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("", "a,b", "-1", "inf"):
        with pytest.raises(UsageError, match="--g"):
            parse_aversions(text)
    assert parse_aversions("1, 0,1,0.25") == (0.0, 0.25, 1.0)
    for words, message in (
        (("-m", "Popp"), "there is no model named 'Popp'"),
        (("-m", ","), "--model names no model"),
        (("-m", "Pop", "SIGN_FIELD=~"), "dislike_aversion is set, but"),
        (("topk=5",), "'topk' can't be set here"),
        (("--k", "1000"), "only 42 items; set a smaller topk and valid_metric, or --k of a trade-off"),
        (("--choose", "--k", "5", *WORDS[:3], "eval_args.split={RS: [1, 0, 1]}"), "nothing of 'toy-signed' to"),
        (("-m", "Pop", "refit_for_test=True"), "refit_for_test fits a model twice, and here it is fitted once"),
    ):
        check_command_refused(message, capsys, "tradeoff", "-d", toy, *words, "state=ERROR")


def test_curves_of_several_models_share_a_figure_rows_and_a_front(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"tradeoff --models EASE,Pop,BPR -d {toy} --g 0,1,4 --k 5 state=ERROR epochs=3 --json".split()
    document = json.loads(printed(capsys, *words))
    assert [Path(file).name for file in document["files"]] == [f"{toy}.{ending}" for ending in ("json", "png", "jsonl")]
    rows = [json.loads(line) for line in Path(f"runs/tradeoff/{toy}.jsonl").read_text().splitlines()]
    assert [(row["model"], row["dislike_aversion"]) for row in rows] == [
        (model, g) for model in ("EASE", "Pop", "BPR") for g in (0, 1, 4)
    ]
    for up in ("recall", "ndcg"):
        at = [(row["dislikerecall@5"], row[f"{up}@5"]) for row in rows]
        for (x, y), row in zip(at, rows, strict=True):
            beaten = any(a <= x and b >= y and (a, b) != (x, y) for a, b in at)
            assert (up in row["front"]) is not beaten
    assert any(row["front"] for row in rows)
    assert read_curves(Path(f"runs/tradeoff/{toy}.jsonl")) == document["curves"]
    assert "on the front" in printed(capsys, *words[:-1])


def test_what_takes_long_says_which_model_it_is_at(
    toy: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "AFTER", 0.0)
    words = ["tradeoff", "-m", "Pop,EASE", "-d", toy, "--g", "0,2", "-k", "5", "--no-figures", "--json", "state=ERROR"]
    _, out, err = outcome(capsys, *words)
    assert [each["model"] for each in json.loads(out)["curves"]] == ["Pop", "EASE"]
    for number, model in enumerate(("Pop", "EASE"), 1):
        assert f"trade-off of {model} on {toy} ({number} of 2): done in " in err


def test_a_trained_model_is_that_of_its_best_epoch_at_every_aversion(toy: str) -> None:
    from recbole_signed.runs import run

    fixed = {"state": "ERROR", "epochs": 8, "learning_rate": 0.05, "stopping_step": 2}
    found = tradeoff("BPR", toy, (0.0, 2.0), 5, overrides=fixed)
    plain = run("BPR", toy, overrides={**fixed, **MEASURED})
    first, last = ({k: v for k, v in each.items() if k != "dislike_aversion"} for each in found["points"])
    assert first == plain.test
    assert last["dislikerecall@5"] < first["dislikerecall@5"]
    assert not list(Path("runs").glob("BPR*-0.pth"))


TABLE = """
datasets: {{toy-signed: {{tuned: full, reg_weight: 7}}, gamma 1: {{dataset: other}}, gamma 2: {{dataset: other}}}}
models:
  Filter: {{model: SSF, auto: false, tuned: false}}
  EASE: {more}
  Pop:
  Random:
  GFCF: {{per_dataset: {{toy-signed: false}}}}
common: {{state: ERROR, rank: 8, topk: [10, 20]}}
"""


def test_models_and_settings_come_from_a_table(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = Path("yaml/model/full/EASE.yaml")
    chosen.parent.mkdir(parents=True)
    sha256 = data_sha256(Path(f"atomic_files/{toy}"), toy)
    chosen.write_text(f"# tuning:\n#   trials: 8\n#   data_sha256: {sha256}\nreg_weight: 3.5\n")
    table = Path("table.yaml")
    words = ("tradeoff", "-d", toy, "--table", "table.yaml", "--g", "0,1", "--k", "5", "--no-figures", "--json")
    table.write_text(TABLE.format(more="{per_dataset: {toy-signed: {dislike_aversion: 1.0}}}"))
    found = json.loads(printed(capsys, *words, "-m", "all", "rank=4"))
    curves = {each["model"]: each for each in found["curves"]}
    assert list(curves) == ["SSF", "EASE", "Pop"]
    assert curves["SSF"]["settings"]["rank"] == 4  # the command line is above the table
    assert curves["EASE"]["settings"]["reg_weight"] == 7  # and the table above what was chosen
    assert curves["EASE"]["chosen"] == 1
    assert list(asked_models(["EASE", "all"], toy, can_trade_off, table)) == ["EASE", "SSF", "Pop"]
    assert list(asked_models(["Pop", "Filter"], toy, can_trade_off, table)) == ["Pop", "SSF"]
    table.write_text(TABLE.replace(", reg_weight: 7", "").format(more=""))
    found = json.loads(printed(capsys, *words, "-m", "EASE"))
    assert found["settings"]["reg_weight"] == 3.5
    alone = tradeoff("EASE", toy, (0.0, 1.0), 5, overrides={"reg_weight": 3.5, "state": "ERROR"})
    for ours, theirs in zip(found["points"], alone["points"], strict=True):
        assert ours == {**theirs, "front": ours["front"]}


def test_what_a_table_cannot_give_is_said(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("table.yaml").write_text(TABLE.format(more="{model: Pop, tuned: false}"))
    for command in ("tradeoff", "respond"):
        for words, message in (
            (
                ("-d", "no-such", "-m", "Pop"),
                "table.yaml has no part on 'no-such', and one is needed; its data sets are ",
            ),
            (("-d", "other", "-m", "Pop"), "table.yaml has 2 parts on 'other', and one is needed; write a table"),
            (("-d", toy, "-m", "GFCF"), "table.yaml leaves GFCF out on 'toy-signed'"),
            (("-d", toy, "-m", "SSF"), "the table has no model 'SSF'"),
            (("-d", toy, "-m", "all"), "EASE and Pop are both Pop; name one of them with --model"),
            (("-d", toy, "-m", "Pop", "--tuned", "full"), "--tuned cannot be combined with --table"),
        ):
            check_command_refused(message, capsys, command, "--table", "table.yaml", *words)


def test_the_best_aversion_is_that_of_validation(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"tradeoff -m EASE,Pop -d {toy} --g 0,2,8 --k 5 --choose state=ERROR eval_step=1".split()
    out = printed(capsys, *words, "signed_gamma=[0.5,2]")
    assert "with the g that is best by it on validation" in out
    assert f"Dislikes shown by EASE on {toy} with the Recall of each other model" in out
    (pop,) = json.loads(Path(f"runs/tradeoff/{toy}.json").read_text())["at_same_recall"]
    assert pop["model"] == "Pop"
    assert pop["theirs"]["dislike_aversion"] in (0, 2, 8)
    assert f"{pop['theirs']['recall@5']:.4f}" in out
    for model in ("EASE", "Pop"):
        found = json.loads(Path(f"runs/tradeoff/{model}-{toy}.json").read_text())
        for name in ("signedndcg@5", "signedndcg@5[gamma 0.5]", "signedndcg@5[gamma 2]"):
            best = max(found["points"], key=lambda point: point["valid"][name])
            assert found["best_on_validation"][name] == best["dislike_aversion"]
            assert f"{best[name]:.4f}" in out
    kept = Path(f"runs/tradeoff/EASE-{toy}.json")
    before = kept.stat().st_mtime_ns
    outcome(capsys, *words, "signed_gamma=[0.5,2]")
    assert kept.stat().st_mtime_ns == before  # taken from there
    outcome(capsys, *words, "signed_gamma=[0.5,1]")
    assert kept.stat().st_mtime_ns > before


def test_files_are_above_what_the_command_and_a_table_say(toy: str) -> None:
    Path("s.yaml").write_text("valid_metric: Recall@10\ndislike_aversion: 0.5\nepochs: 2\nseed: 7\n")
    values = {"epochs": 1, "embedding_size": 8}
    found = tradeoff("BPR", toy, (0.0, 0.5), 10, ["s.yaml"], {"state": "ERROR"}, values=values)
    words = {"valid_metric": "Recall@10", "dislike_aversion": 0.5, "epochs": 2, "embedding_size": 8, "state": "ERROR"}
    assert found["settings"].items() >= {"valid_metric": "Recall@10", "epochs": 2, "embedding_size": 8}.items()
    assert found["chosen"] == 0.5
    assert found["points"] == tradeoff("BPR", toy, (0.0, 0.5), 10, overrides=words, seed=7)["points"]


def test_a_table_may_choose_by_another_length(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    common = "topk: [10], valid_metric: Recall@10, state: ERROR"
    models = "models: {BPR: {epochs: 3}}\ncolumns: [recall@10]\n"
    Path("t.yaml").write_text(f"title: T\ndatasets: [{toy}]\ncommon: {{{common}}}\n{models}")
    words = ["-m", "BPR", "-d", toy, "--g", "0,1", "-k", "5", "--choose", "--no-figures", "--output", "kept"]
    printed(capsys, "tradeoff", *words, "--table", "t.yaml")
    kept = json.loads(Path(f"kept/BPR-{toy}.json").read_text())
    assert kept["settings"]["valid_metric"] == "Recall@10"
    lengths = {name.partition("@")[2] for point in kept["points"] for name in (*point, *point["valid"]) if "@" in name}
    assert lengths == {"5"}
    alone = tradeoff("BPR", toy, (0.0, 1.0), 10, overrides={"valid_metric": "Recall@10", "epochs": 3, "state": "ERROR"})
    assert [each["signauc"] for each in kept["points"]] == [each["signauc"] for each in alone["points"]]


def test_a_folder_that_a_file_names_is_that_of_what_is_kept(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.yaml").write_text("data_path: elsewhere\nstate: ERROR\n")
    Path("t.yaml").write_text(f"title: T\ndatasets: [{toy}]\ncommon: {{data_path: elsewhere}}\nmodels: {{Pop: }}\n")
    convert("toy", None, "elsewhere", seed=3)
    words = ["-m", "Pop", "-d", toy, "--g", "0,1", "-k", "5", "--no-figures", "--output", "kept"]
    for source in (["-c", "s.yaml"], ["--table", "t.yaml", "state=ERROR"]):
        for seed in (3, 5):
            convert("toy", None, "elsewhere", overwrite=True, seed=seed)
            printed(capsys, "tradeoff", *words, *source)
            kept = json.loads(Path(f"kept/Pop-{toy}.json").read_text())
            assert kept["data_sha256"] == data_sha256(Path("elsewhere") / toy, toy), "and not that of atomic_files"
    convert("toy", None, "alone", name="other")
    Path("s.yaml").write_text("data_path: alone\nstate: ERROR\n")
    printed(capsys, "respond", "-m", "SSF", "-d", "other", "--users", 2, "-c", "s.yaml")


def test_what_is_kept_is_of_the_same_question_files_data_and_version(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    def make(model: str, dataset: str, **question: Any) -> dict[str, Any]:
        made.append(question)
        return {"points": []}

    def times(values: dict[str, Any], **question: Any) -> int:
        """Ask twice, and return how often the answer has been made so far."""
        for _ in range(2):
            fitting.kept_or_made({"Pop": values}, toy, Path("kept"), question, make)
        return len(made)

    Path("s.yaml").write_text("topk: [5]\n")
    assert times({}, k=5) == 1
    assert times({}, k=6) == 2
    assert times({}, k=6, config_files=["s.yaml"]) == 3
    Path("s.yaml").write_text("topk: [6]\n")
    assert times({}, k=6, config_files=["s.yaml"]) == 4
    chosen = {"dislike_aversion": 1.0}
    assert times(chosen, k=6) == 5
    convert("toy", None, "atomic_files", overwrite=True, seed=3)
    assert times(chosen, k=6) == 6
    with Path(f"atomic_files/{toy}/{toy}.yaml").open("a") as settings:
        settings.write("\nverdict_smoothing: 500\n")
    assert times(chosen, k=6) == 7
    monkeypatch.setattr(fitting, "__version__", "another")
    assert times(chosen, k=6) == 8


def test_the_best_aversion_and_the_front() -> None:
    rows = [(0.0, 0.1, 0.9), (0.5, 0.4, 0.1), (1.0, 0.4, 0.2), (2.0, 0.3, 0.3)]
    name = "signedndcg@5"
    points = [{"dislike_aversion": g, name: test, "valid": {name: valid, "ndcg@5": -g}} for g, valid, test in rows]
    assert module._best_on_validation(points) == {name: 0.5}
    places = [(0.2, 0.5), (0.2, 0.5), (0.2, 0.4), (0.3, 0.5), (0.3, 0.6), (None, 0.9), (0.1, None)]
    points = [{"dislikerecall@5": across, "recall@5": up, "ndcg@5": up} for across, up in places]
    module.mark_front([{"k": 5, "points": points[:3]}, {"k": 5, "points": points[3:]}])
    assert [point["front"] != [] for point in points] == [True, True, False, False, True, False, False]


def curve(model: str, *points: tuple[float | None, float, float | None]) -> dict[str, Any]:
    """Return a curve with g = 0, 1, ...: the Recall on validation, and Recall and DislikeRecall on the test part."""
    made = [
        {
            "dislike_aversion": float(g),
            "recall@5": recall,
            "ndcg@5": recall,
            "dislikerecall@5": dislikes,
            "valid": {"recall@5": valid, "dislikerecall@5": 0.5},
            "front": ["recall"],
        }
        for g, (valid, recall, dislikes) in enumerate(points)
    ]
    return {"model": model, "dataset": "d", "seed": 1, "k": 5, "chosen": 0.0, "points": made}


def test_dislikes_are_compared_where_recall_on_validation_is_equal() -> None:
    first = curve("A", (0.4, 0.41, 0.30), (0.35, 0.34, 0.20), (0.3, 0.29, 0.15), (0.2, 0.21, 0.10))
    others = (
        curve("Lower", (0.25, 0.26, 0.20), (0.3, 0.31, 0.25), (0.3, 0.30, 0.25)),  # of equal ones the larger g
        curve("Between", (0.25, 0.26, 0.25)),
        curve("Least", (0.1, 0.11, 0.08)),
        curve("Higher", (0.5, 0.49, 0.40)),
        curve("Silent", (0.3, 0.28, 0.0)),
        curve("Unknown", (None, 0.3, 0.2), (0.3, 0.3, None)),
    )
    rows = [[str(cell) for cell in line.cells] for line in matched_table([first, *others]).sections[0].lines]
    assert rows == [
        ["2", "0.3000", "0.2500", "2", "0.2900", "0.1500", "-40.0%"],
        ["0", "0.2600", "0.2500", "2.5", "0.2500", "0.1250", "-50.0%"],
        ["0", "0.1100", "0.0800", "3", "0.2100", "0.1000", "+25.0%"],
        ["0", "0.4900", "0.4000", "-", "-", "-", "-"],
        ["0", "0.2800", "0.0000", "2", "0.2900", "0.1500", "-"],
        ["-", "-", "-", "-", "-", "-", "-"],
    ]


def test_tables_and_figures_have_the_display_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curves = [curve("SSFL", (0.4, 0.41, 0.30)), curve("SSFT", (0.3, 0.31, 0.25)), curve("EASE", (0.2, 0.1, 0.2))]
    tables = [
        *(to_text(make(curves)) for make in (tradeoff_table, matched_table, front_table)),
        to_text(tradeoff_table(curves[:1])),
    ]
    assert all("SSF-L" in each and "SSFL" not in each and "SSFT" not in each for each in tables)
    drawn: list[str] = []
    monkeypatch.setattr("matplotlib.figure.Figure.legend", lambda _, lines, labels, **words: drawn.extend(labels))
    draw_tradeoff(curves, tmp_path / "figure.png")
    assert drawn == ["SSF-L", "SSF-T", "EASE", "Pareto front"]


def test_many_curves_have_the_colours_of_their_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = ["EASE", "SSF", "SIGformer", "SignedEASE", "GFCF", "LightGCN", "SGFCF", "SSFL", "Pop", "SiReN", "BSPM"]
    curves = [curve(model, (0.4, 0.41, 0.30 + place / 100)) for place, model in enumerate(models)]
    drawn: list[tuple[str, object]] = []

    def recorded(page: Figure, lines: list[Line2D], labels: list[str], **words: object) -> Legend:
        drawn.extend(zip(labels, (line.get_color() for line in lines), strict=True))
        return plain(page, lines, labels, **words)

    plain = Figure.legend
    monkeypatch.setattr(Figure, "legend", recorded)
    draw_tradeoff(curves, tmp_path / "figure.png")
    assert [label for label, _ in drawn] == [
        *("this package", "SSF", "SSF-L", "signed, gradient-trained", "SIGformer", "SiReN"),
        *("signed, closed form", "SignedEASE", "likes only, gradient-trained", "LightGCN"),
        *("likes only, closed form", "EASE", "GFCF", "SGFCF", "BSPM", "reference", "Pop", "Pareto front"),
    ]
    colours = dict(drawn)
    assert colours["SSF"] == colours["SSF-L"] != colours["SIGformer"] == colours["SiReN"]


@pytest.mark.parametrize(("tail", "told"), [(0.3, ["below: Pop (at most 0.100)"]), (0.05, [])])
def test_models_below_the_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tail: float, told: list[str]) -> None:
    """The tail of a good model's curve may lower the axis to those that are far below, which are then to be seen."""
    curves = [curve("EASE", (0.4, 0.4, 0.3), (0.3, tail, 0.1)), curve("Pop", (0.1, 0.1, 0.2), (0.1, 0.08, 0.1))]
    written: list[str] = []
    monkeypatch.setattr(Axes, "text", lambda _, x, y, text, **words: written.append(text))
    draw_tradeoff(curves, tmp_path / "figure.png")
    assert [text for text in written if "below" in text] == told * 2


def test_a_folder_of_tuned_keys_that_is_not_there_is_refused(toy: str) -> None:
    """Defaults in place of what was tuned would be another result."""
    Path("yaml/model/full").mkdir(parents=True)
    Path("yaml/model/full/EASE.yaml").write_text("reg_weight: 3.5\n")
    assert asked_models(["EASE", "Pop"], toy, can_trade_off, None, ["full"]) == {"EASE": {"reg_weight": 3.5}, "Pop": {}}
    with pytest.raises(UsageError, match=r"--tuned names 'ful', but there is no folder yaml/model/ful; did you mean"):
        asked_models(["EASE"], toy, can_trade_off, None, ["ful"])


POOLED = """
datasets:
  one: {dataset: toy-signed, pool: Both}
  two: {dataset: toy-again, pool: Both}
models: {EASE: {per_dataset: {two: {reg_weight: 9}}}, Pop: , GFCF: {per_dataset: {two: false}}}
common: {state: ERROR, eval_step: 1, signed_gamma: [0.5, 2]}
"""


def test_what_holds_on_several_splits(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    convert("toy", None, "atomic_files", name="toy-again", seed=5)
    Path("table.yaml").write_text(POOLED)
    words = ("tradeoff", "--table", "table.yaml", "--g", "0,2,8", "--k", "5", "--no-figures")
    found = json.loads(printed(capsys, *words, "-d", "Both", "-m", "EASE,Pop", "--json"))
    assert (found["name"], found["datasets"]) == ("Both", [toy, "toy-again"])
    assert [Path(file).name for file in found["files"]] == [
        *(f"{dataset}.{ending}" for dataset in (toy, "toy-again") for ending in ("json", "jsonl")),
        "Both.json",
    ]
    ours, theirs = found["models"]
    name = "signedndcg@5[gamma 2]"
    for each in (ours, theirs):
        for dataset, split in zip(found["datasets"], each["splits"], strict=True):
            curve = json.loads(Path(f"runs/tradeoff/{each['model']}-{dataset}.json").read_text())
            best = max(curve["points"], key=lambda point: point["valid"][name])
            assert split["best"][name] == {"dislike_aversion": best["dislike_aversion"], "value": best[name]}
            assert split["data_sha256"] == curve["data_sha256"]
            is_set = (each["model"], dataset) == ("EASE", "toy-again")
            assert curve["settings"].get("reg_weight") == (9 if is_set else None)
    for dataset, split in zip(found["datasets"], theirs["splits"], strict=True):
        (alone,) = json.loads(Path(f"runs/tradeoff/{dataset}.json").read_text())["at_same_recall"]
        assert split["at_same_recall"] == {key: value for key, value in alone.items() if key != "model"}
    out = printed(capsys, *words, "-d", f"{toy},toy-again", "-m", "EASE,Pop")
    assert f"SignedNDCG and dislikes on {toy}+toy-again, 2 splits" in out
    values = [[split["best"][name]["value"] for split in each["splits"]] for each in (ours, theirs)]
    ahead = [a - b for a, b in zip(*values, strict=True)]
    assert f"{sum(ahead) / 2:+.4f} ({sum(each > 0 for each in ahead)} of 2)" in out
    assert f"{sum(values[1]) / 2:.4f}" in out
    alone = "GFCF: on one of 'toy-signed' and 'toy-again' alone"
    check_command_refused(alone, capsys, *words, "-d", "Both", "-m", "EASE,all")
    check_command_refused("--dataset names no data set", capsys, *words, "-d", ",", "-m", "EASE")


def test_dislikes_over_splits_have_their_range() -> None:
    def split(difference: float | None, value: float) -> dict[str, Any]:
        return {"best": {"signedndcg@5": {"value": value}}, "at_same_recall": {"difference": difference}}

    found = {
        "name": "d",
        "datasets": ["a", "b"],
        "aversions": [0.0],
        "models": [
            {"model": "A", "splits": [split(None, 0.2), split(None, 0.4)]},
            {"model": "B", "splits": [split(-0.1, 0.1), split(-0.3, 0.5)]},
            {"model": "C", "splits": [split(-0.1, 0.1), split(None, 0.1)]},
        ],
    }
    rows = [[line.label, *map(str, line.cells)] for line in splits_table(found).sections[0].lines]
    assert rows == [
        ["A", "0.3000", "", ""],
        ["B", "0.3000", "+0.0000 (1 of 2)", "-20% (-30% to -10%)"],
        ["C", "0.1000", "+0.2000 (2 of 2)", "-"],
    ]
    found["models"][1]["splits"][0]["best"]["signedndcg@5"]["value"] = 0.11
    first = {
        "model": "B", "value": pytest.approx(0.305), "second": "A", "second_value": pytest.approx(0.3), "splits": 1,
    }  # fmt: skip
    assert standings(found) == {"": first}


def test_a_death_while_a_curve_is_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call takes the curve from the file that the command writes its result to."""

    def half(path: Path, content: str | bytes, **_: Any) -> None:
        with path.open("wb") as file:
            file.write(content[:3] if isinstance(content, bytes) else content[:3].encode())
        raise KeyboardInterrupt

    analysis._keep({"g": 1}, tmp_path / "SSF-toy-signed", None)
    for name in ("write_text", "write_bytes"):
        monkeypatch.setattr(Path, name, half)
    with pytest.raises(KeyboardInterrupt):
        analysis._keep({"g": 2}, tmp_path / "SSF-toy-signed", None)
    assert json.loads((tmp_path / "SSF-toy-signed.json").read_bytes()) == {"g": 1}
