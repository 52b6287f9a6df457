"""The commands of data sets, and those of the lab."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml
from command_line import check_command_refused, end_by_sigterm, outcome, printed
from refusals import check_refused

from recbole_signed.cli.data import parse_count
from recbole_signed.convert import convert
from recbole_signed.lab.synth import PROFILES
from recbole_signed.runs import run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "atomic_files"
    convert("toy", None, root)
    (tmp_path / "raw.csv").write_text("user,item,sign\na,x,1\na,y,-1\n")
    convert("csv", tmp_path / "raw.csv", root)
    (root / "by-hand").mkdir()
    (root / "by-hand" / "by-hand.inter").write_text("user_id:token\titem_id:token\na\tx\n")
    (root / "notes").mkdir()
    return root


def version(root: Path, name: str) -> str:
    return json.loads((root / name / "dataset.json").read_text())["version"]


def test_list(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "data", "list")
    title, *lines = [line for line in out.splitlines() if line.strip("─ ")]
    assert title == "data sets in atomic_files"
    assert lines[0].split()[:4] == ["name", "version", "rows", "likes"]
    assert [line.split()[0] for line in lines[1:4]] == ["by-hand", "raw", "toy-signed"]
    assert lines[3].split()[1:9] == [version(data, "toy-signed"), "960", "480", "360", "120", "60", "42", "toy"]
    assert lines[4].endswith("by-hand has no dataset.json, so nothing is known about its files.")
    assert printed(capsys, "data", "list", "--verify").endswith("\nAll files are as they were made.\n")


def test_a_mismatch_is_said_in_one_sentence_and_ends_with_1(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data / "raw" / "raw.inter"
    path.write_text(path.read_text().replace("a\ty\t-1", "a\ty\t1"))
    for verify in ([], ["--verify"]):
        status, out, _ = outcome(capsys, "data", "list", "--root", str(data), *verify)
        assert status == 1
        changed = [line for line in out.splitlines() if line.startswith("changed: ")]
        assert len(changed) == 1
        assert "raw.inter has 51 bytes where dataset.json says 52" in changed[0]
    status, out, _ = outcome(capsys, "data", "list", "--json", "--verify")
    assert status == 1
    found = {each["name"]: each for each in json.loads(out)}
    assert len(found["raw"]["problems"]) == 1
    assert not found["raw"]["verified"]
    assert found["toy-signed"]["verified"]
    assert found["toy-signed"]["rows"]["like"] == 480
    assert found["by-hand"]["version"] is None
    before = version(data, "raw")
    out = printed(capsys, "data", "accept", "raw", "toy-signed")
    assert out.splitlines()[0] == f"raw: accepted raw.inter; version {version(data, 'raw')}"
    assert out.splitlines()[1].startswith("toy-signed: nothing had changed")
    assert version(data, "raw") != before
    assert "raw.inter changed by hand, and accepted" in printed(capsys, "data", "list", "--verify")


def test_bad_words(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "there is no folder nowhere; give --data-path, or make it with 'recbole-signed convert'.\n"
    check_command_refused(said, capsys, "data", "list", "--root", "nowhere")
    check_command_refused("there is no data set 'toy' in atomic_files", capsys, "data", "accept", "toy")
    (data / "raw" / "dataset.json").write_text("{")
    status, out, _ = outcome(capsys, "data", "list")
    assert status == 1
    assert "dataset.json is damaged" in out


def test_convert_says_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"u{u},i{i},{1 if i else -1}" for u in range(3) for i in range(3)]
    (tmp_path / "raw.csv").write_text("\n".join(["user,item,sign", *rows, "u0,i9,1", "u0,i0,1", "x", "y,,1"]))
    words = ["convert", "csv", "-i", "raw.csv", "--on-error", "skip", "k_core=3", "--dedup=last"]
    lines = printed(capsys, *words).splitlines()
    assert "9 rows (7 likes, 2 dislikes, 0 neutrals), 3 users, 3 items, version " in lines[0]
    assert lines[1] == "no times (time= names their column)"
    assert lines[2] == "dedup dropped 1 row (0 likes, 1 dislike, 0 neutrals)"
    assert lines[3] == "k_core dropped 1 row (1 like, 0 dislikes, 0 neutrals)"
    assert lines[4] == "rejected: 2 of raw.csv; see raw.rejected.tsv there"
    document = json.loads(printed(capsys, *words, "--overwrite", "--json"))
    assert document["rejected"] == {"rows": 2, "files": {"raw.csv": 2}}
    assert [step["dropped"]["total"] for step in document["cleaning"]["steps"]] == [1, 1]


def test_a_conversion_that_is_terminated_leaves_nothing(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw.csv", tmp_path / "out"
    raw.write_text("user,item,rating\n" + "a,x,5\nb,y,1\n" * 500_000)
    words = ["convert", "csv", "--input", raw, "--output", out, "like=rating >= 4"]
    end_by_sigterm(*words, once=lambda: out.is_dir() and list(out.iterdir()))
    assert not list(out.iterdir())


def test_sources_and_their_options_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    listed, _, common = printed(capsys, "convert", "--list").partition("every source:")
    assert "    like=text  rule for likes" in listed
    assert all(n in common for n in ("on_error=stop|skip", "dedup=none|last|first", "min_likes=", "k_core=", "gap_"))
    sources = {each["name"]: each for each in json.loads(printed(capsys, "convert", "--list", "--json"))}
    assert {"csv", "movielens-100k", "signed-split"} <= sources.keys()
    assert {"like", "dislike"} <= {option["name"] for option in sources["csv"]["options"]}
    assert {each["name"] for each in sources["csv"]["common_options"]} >= {"on_error", "k_core"}
    out = printed(capsys, "convert", "csv", "--list")
    assert [line for line in out.splitlines() if not line.startswith(" ")] == [
        "csv: any CSV, TSV, JSON lines or parquet file (text also as .gz, .xz, .zst), by column names",
        "every source:",
    ]
    assert "    items=file  file of the items" in out


def test_rows_that_repeat_a_pair_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw.csv"
    raw.write_text("user,item,rating\n" + "a,x,5\nb,y,1\n" * 2)
    words = ("convert", "csv", "--input", raw, "--output", tmp_path / "out", "like=rating >= 4", "dislike=rating <= 2")
    said = "2 rows repeat a pair of user and item; dedup=last keeps the last of each pair\n"
    assert said in printed(capsys, *words)
    assert "repeat a pair" not in printed(capsys, *words, "dedup=last", "--overwrite")


def test_stats_of_the_published_split(
    shared_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    convert("signed-split", shared_data("sigformer-kuairand"), tmp_path / "sets")
    out = printed(capsys, "stats", "sigformer-kuairand", "--data-path", str(tmp_path / "sets"))
    assert "train: 4,159 repeated rows" in out
    assert "train: 226 pairs with both signs" in out
    assert "2,263 test pairs are also in train" in out
    assert Path("runs/stats/sigformer-kuairand.png").stat().st_size > 50_000
    words = ("stats", "sigformer-kuairand", "--data-path", str(tmp_path / "sets"), "--no-figures", "--json")
    report = json.loads(printed(capsys, *words))
    train = report["parts"]["train"]
    assert (train["repeated_rows"], train["contradicting_pairs"]) == (4159, 226)
    assert report["parts"]["test"]["pairs_also_in"]["train"] == 2263
    assert report["figures"] is None


def test_stats_finds_what_run_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A set in RecBole's folder, and the one that makes itself; of the toy set the message has the command."""
    words = ("--no-figures", "--json")
    check_command_refused("('recbole-signed convert toy' makes it)", capsys, "stats", "toy-signed", *words)
    convert("toy", None, tmp_path / "dataset")
    assert json.loads(printed(capsys, "stats", "toy-signed", *words))["path"] == "dataset/toy-signed"
    (tmp_path / "atomic_files" / "arrays").mkdir(parents=True)  # as synth --format npz makes one
    check_command_refused("atomic_files/arrays holds no .inter file; ", capsys, "stats", "arrays")
    assert json.loads(printed(capsys, "stats", "ml-100k-signed", *words))["users"] == 943


def test_times_without_a_date_get_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from scipy.io import savemat

    matrix = [[user, item, 1, 1 + 4 * (item % 2), 1, 1 + item] for user in range(1, 9) for item in range(1, 11)]
    savemat(tmp_path / "rating_with_timestamp.mat", {"rating": matrix})
    convert("epinions", tmp_path, tmp_path / "atomic_files")
    out = printed(capsys, "stats", "epinions", "--output", "pages")
    assert "time: 2 to 11; 10 moments" in out
    assert "1970" not in out


def test_stats_for_a_reader_and_as_json(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "stats", toy, "--output", "pages")
    assert "toy-signed: 960 rows, 60 users, 42 items" in out
    assert "no repeated rows, no contradicting pairs" in out
    assert Path("pages/toy-signed.png").is_file()
    report = json.loads(printed(capsys, "stats", toy, "--output", "pages", "--json"))
    assert (report["rows"]["like"], report["rows"]["dislike"], report["rows"]["neutral"]) == (480, 360, 120)
    assert report["figures"] == "pages/toy-signed.png"


def test_without_matplotlib_the_numbers_still_come(
    toy: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, out, err = outcome(capsys, "stats", toy)
    assert (status, "toy-signed: 960 rows" in out) == (0, True)
    (line,) = err.splitlines()
    assert "pip install 'matplotlib>=" in line, "pip finds no package of the extra's name"
    assert "recbole-signed[plots]" in line
    document = json.loads(printed(capsys, "stats", toy, "--json"))
    assert (document["rows"]["total"], document["figures"]) == (960, None)
    assert "recbole-signed[plots]" in document["note"]
    assert "note" not in json.loads(printed(capsys, "stats", toy, "--no-figures", "--json"))


def test_synth_makes_a_data_set_that_stats_reads(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("synth", "--profile", "kuairand", "--edges", "20k")
    said = "atomic_files/synth-kuairand-20k: 20,000 edges, 1,290 users, 335 items"
    assert said in printed(capsys, *words)
    stats = printed(capsys, "stats", "synth-kuairand-20k", "--no-figures")
    assert "no repeated rows, no contradicting pairs" in stats
    check_command_refused("already there", capsys, *words)


def test_synth_checks_itself_and_its_help_names_every_profile(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("synth", "-p", "kuairand", "-e", "300k", "--seed", "11", "--check", "--no-write")
    assert "OUTSIDE" not in printed(capsys, *words)
    assert not Path("atomic_files").exists()
    # so small a graph is unlike MovieLens-1M, whose users have more films than it holds
    words = ("synth", "-p", "ml-1m", "-e", "180k", "--check", "--json", "--format", "npz", "--name", "small")
    status, out, _ = outcome(capsys, *words)
    assert status == 1
    document = json.loads(out)
    assert {each["statistic"] for each in document["check"] if not each["ok"]} >= {"user_degree_p99"}
    assert Path(document["path"], "small.npz").is_file(), "it is written all the same"
    page = printed(capsys, "synth", "--help")
    assert all(name in page for name in PROFILES)


def test_counts() -> None:
    counts = {"250k": 250_000, "10M": 10**7, "1.5m": 1_500_000, "1_000": 1000, "2G": 2 * 10**9, "1b": 10**9, "12": 12}
    assert {text: parse_count(text) for text in counts} == counts
    for text in ("", "M", "-5", "1e6", "ten", "1.5.2k"):
        check_refused("write it like", parse_count, text)


SPACE = "reg_weight: {log_uniform: [1, 100]}\ndislike_weight: [-0.5, 0.5]\n"


@pytest.fixture
def tune(toy: str, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Tune SignedEASE on the planted set in a space of a user's own, and return what is printed."""
    Path("yaml/tune").mkdir(parents=True)
    Path("yaml/tune/SignedEASE.yaml").write_text(SPACE, encoding="utf-8")
    return partial(printed, capfd, "tune")


def test_the_command_writes_what_a_run_can_use(tune: Callable[..., str]) -> None:
    words = ("-m", "SignedEASE", "-d", "toy-signed", "--trials", "4", "valid_metric=NDCG@10", "state=ERROR")
    document = json.loads(tune(*words, "--json"))
    assert document["new_trials"] == len(document["trials"]) == 4
    assert document["best"]["value"] >= document["default_value"]
    file = Path(document["file"])
    assert file == Path("yaml/model/toy-signed/SignedEASE.yaml")
    settings = {"valid_metric": "NDCG@10", "state": "ERROR", "metric_decimal_place": 6}
    row = run("SignedEASE", "toy-signed", [file], settings, save=False)
    assert row.valid["ndcg@10"] == document["best"]["value"]
    assert row.settings["reg_weight"] == document["values"]["reg_weight"]
    out = tune(*words)
    assert "4 trials (4 complete, 0 pruned), 0 now" in out
    assert f"written: {file}" in out


def test_a_table_is_tuned_by_one_command(tune: Callable[..., str]) -> None:
    Path("table.yaml").write_text(
        "{datasets: [toy-signed], models: {SignedEASE: {start: {reg_weight: 3.0, dislike_weight: 0.5}}}, "
        "common: {tuned: true, valid_metric: NDCG@10, state: ERROR}}",
        encoding="utf-8",
    )
    (document,) = json.loads(tune("--table", "table.yaml", "--trials", "2", "--json"))
    assert document["trials"][1]["values"] == {"reg_weight": 3.0, "dislike_weight": 0.5}
    assert "2 trials (2 complete, 0 pruned), 0 now" in tune("--table", "table.yaml", "--trials", "2")


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
    summary = json.loads(printed(capfd, "replay", experiment, "--json"))
    assert {row["arm"] for row in summary["pooled"]} == {"none", "online", "refit", "pop"}
    assert {each.name for each in experiment.parent.iterdir()} == {"small.yaml", "small.md", "small.jsonl", "small.png"}
    table = (experiment.parent / "small.md").read_text()
    assert printed(capfd, "replay", experiment) == table  # from what is there
    experiment.write_text(experiment.read_text().replace("ml-100k-signed", "ml-100k-singed"))
    said = "in atomic_files ('recbole-signed convert' makes one); did you mean 'ml-100k-signed'"
    check_command_refused(said, capfd, "replay", experiment)
    experiment.write_text(f"# convert makes its data set\n{experiment.read_text()}")
    check_command_refused(f"({experiment} says how to make it)", capfd, "replay", experiment)


def test_a_replay_that_is_terminated_leaves_no_events_behind(experiment: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    end_by_sigterm("replay", experiment, once=lambda: list(temporary.rglob("log.sqlite")), TMPDIR=str(temporary))
    assert not list(temporary.iterdir())
