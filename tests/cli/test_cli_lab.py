import json
from pathlib import Path

import pytest
import yaml
from command_line import end_by_sigterm, outcome

from recbole_signed.convert import convert
from recbole_signed.runs import run


def test_the_command_writes_what_a_run_can_use(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    convert("toy", None, tmp_path / "atomic_files")
    Path("yaml/tune").mkdir(parents=True)
    Path("yaml/tune/SignedEASE.yaml").write_text(
        "reg_weight: {log_uniform: [1, 100]}\ndislike_weight: [-0.5, 0.5]\n", encoding="utf-8"
    )
    words = ("tune", "-m", "SignedEASE", "-d", "toy-signed", "--trials", "4", "valid_metric=NDCG@10", "state=ERROR")
    status, out, err = outcome(capfd, *words, "--json")
    assert status == 0, err
    document = json.loads(out)
    assert document["new_trials"] == len(document["trials"]) == 4
    assert document["best"]["value"] >= document["default_value"]
    file = Path(document["file"])
    assert file == Path("yaml/model/toy-signed/SignedEASE.yaml")
    settings = {"valid_metric": "NDCG@10", "state": "ERROR", "metric_decimal_place": 6}
    row = run("SignedEASE", "toy-signed", [file], settings, save=False)
    assert row.valid["ndcg@10"] == document["best"]["value"]
    assert row.settings["reg_weight"] == document["values"]["reg_weight"]
    status, out, _ = outcome(capfd, *words)
    assert status == 0
    assert "4 trials (4 complete, 0 pruned), 0 now" in out
    assert f"written: {file}" in out


def test_a_wrong_command_is_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    convert("toy", None, tmp_path / "atomic_files")
    status, out, err = outcome(capfd, "tune", "-m", "Pop", "-d", "toy-signed", "--json")
    assert status == 2
    assert json.loads(out)["error"] in err
    assert "there is no yaml/tune/Pop.yaml" in err


def test_a_table_is_tuned_by_one_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    convert("toy", None, tmp_path / "atomic_files")
    Path("yaml/tune").mkdir(parents=True)
    Path("yaml/tune/SignedEASE.yaml").write_text("reg_weight: {log_uniform: [1, 100]}\n", encoding="utf-8")
    Path("table.yaml").write_text(
        "{datasets: [toy-signed], models: {SignedEASE: {start: {reg_weight: 3.0}}}, "
        "common: {tuned: true, valid_metric: NDCG@10, state: ERROR}}",
        encoding="utf-8",
    )
    status, out, err = outcome(capfd, "tune", "--table", "table.yaml", "--trials", "2", "--json")
    assert status == 0, err
    (document,) = json.loads(out)
    assert document["trials"][1]["values"] == {"reg_weight": 3.0}
    status, out, _ = outcome(capfd, "tune", "--table", "table.yaml", "--trials", "2")
    assert (status, "2 trials (2 complete, 0 pruned), 0 now" in out) == (0, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-m", "EASE"), "say what to tune: a model (-m) on a data set (-d), or a table (--table)."),
        (("--table", "t.yaml", "epochs=3"), "KEY=VALUE cannot be combined with --table"),
        (("--table", "t.yaml", "--start", "epochs=3"), "--start cannot be combined with --table"),
    ],
)
def test_clashes_are_one_sentence(words: tuple[str, ...], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    status, _, err = outcome(capfd, "tune", *words)
    assert status == 2
    assert said in err


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A small one on the data that makes itself."""
    content = {
        "title": "MovieLens", "dataset": "ml-100k-signed", "cut": 0.9, "windows": 10, "timed_events": 1,
        "models": {"SSF": {"settings": {"rank": 8, "cutoff": 4}, "arms": ["none", "online", "refit"]}},
    }  # fmt: skip
    path = tmp_path / "online" / "small.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_report_lies_beside_the_yaml_and_an_unknown_data_set_is_refused(
    experiment: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = outcome(capfd, "replay", experiment, "--json")
    assert status == 0
    summary = json.loads(out)
    assert {row["arm"] for row in summary["pooled"]} == {"none", "online", "refit", "pop"}
    assert {each.name for each in experiment.parent.iterdir()} == {"small.yaml", "small.md", "small.jsonl", "small.png"}
    table = (experiment.parent / "small.md").read_text()
    assert outcome(capfd, "replay", experiment)[:2] == (0, table)  # from what is there
    experiment.write_text(experiment.read_text().replace("ml-100k-signed", "ml-100k-singed"))
    status, _, err = outcome(capfd, "replay", experiment)
    assert status == 2
    assert "in atomic_files ('recbole-signed convert' makes one); did you mean 'ml-100k-signed'" in err
    experiment.write_text(f"# convert makes its data set\n{experiment.read_text()}")
    assert f"({experiment} says how to make it)" in outcome(capfd, "replay", experiment)[2]


def test_a_replay_that_is_terminated_leaves_no_events_behind(experiment: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    end_by_sigterm("replay", experiment, once=lambda: list(temporary.rglob("log.sqlite")), TMPDIR=str(temporary))
    assert not list(temporary.iterdir())
