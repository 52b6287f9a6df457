import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from command_line import check_command_refused, outcome, printed
from generated_pages import leaves
from scripted import scripted_run
from typer.testing import CliRunner
from warm_python import WarmPython

from recbole_signed import __version__
from recbole_signed.cli import app as cli
from recbole_signed.cli import doctor
from recbole_signed.cli.output import names_in
from recbole_signed.runs import processes

PACKAGE_ROOT = Path(cli.__file__).resolve().parents[2]


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "recbole_signed", *words, **environment)


def python(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT), **environment},
    )


def test_run_writes_one_document_to_standard_output(toy: str) -> None:
    done = process(
        *("run", "-m", "BPR", "-d", toy, "--seed", "3", "--json", "--verbose"),
        *("--epochs=1", "embedding_size=8", "eval_args.order=TO"),
    )
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    for key in ("fit_seconds", "eval_seconds", "peak_memory_bytes", "config_hash", "data_sha256"):
        assert row[key], key
    assert (row["model"], row["dataset"], row["seed"], row["epochs"]) == ("BPR", toy, 3, 1)
    assert row["split"]["order"] == "TO"
    assert {"recall@20", "dislikerecall@20", "signauc"} < row["test"].keys() == row["valid"].keys()
    assert "learning_rate" in done.stderr, "RecBole's log"


def test_a_run_says_in_a_few_lines_what_it_does_or_nothing(toy: str) -> None:
    words = ("run", "-m", "BPR", "-d", toy, "--epochs=1", "learning_rate=0.01", "embedding_size=64", "--no-save")
    brief = process(*words, "features.item=all")
    assert brief.returncode == 0, brief.stderr
    about, changed, unread = brief.stderr.splitlines()[:3]
    assert about.startswith("BPR on toy-signed, seed 2020: ")
    assert about.endswith(" dislikes")
    assert changed == "epochs=1 learning_rate=0.01 features={item: all}", "what is not as by default"
    assert unread == "BPR reads no features."
    assert "train_batch_size" not in brief.stderr
    quiet = process(*words, "--quiet")
    assert quiet.stderr == ""
    assert "Recall@10" in quiet.stdout
    assert "exclude each other" in process(*words, "--quiet", "--verbose").stderr


def test_run_for_a_reader(toy: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name, size in (("a", 4), ("b", 8), ("c", 16)):
        (tmp_path / f"{name}.yaml").write_text(f"embedding_size: {size}\nstate: ERROR\nepochs: 1\n", encoding="utf-8")
    out = printed(capsys, "run", "-m", "BPR", "-d", toy, "-c", "a.yaml,b.yaml", "-c", "c.yaml", "--no-save", "topk=[5]")
    assert "BPR on toy-signed, seed 2020" in out
    assert "Recall@5" in out
    assert "(1 epoch)" in out
    assert not list(Path("runs").glob("*.pth"))


def test_what_is_written_below_python_goes_to_standard_error(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom recbole_signed.cli.app import stdout_for_result\n"
        "with stdout_for_result():\n    print('python'); os.system('echo child'); os.write(1, b'c code\\n')\n"
        "print('result')"
    )
    done = python("-c", script)
    assert done.stdout == "result\n"
    assert sorted(done.stderr.split("\n")[:-1]) == ["c code", "child", "python"]


@pytest.mark.parametrize(
    ("words", "found"), [("comp", "compare"), ("run -m SignediA", "SignediALS"), ("run -d toy", "toy-signed")]
)
def test_the_shell_completes_commands_models_and_data_sets(toy: str, words: str, found: str) -> None:
    asked = {"_RECBOLE_SIGNED_COMPLETE": "complete_bash", "COMP_WORDS": f"recbole-signed {words}"}
    asked["COMP_CWORD"] = str(len(words.split()))
    code = "import sys; sys.argv = ['recbole-signed']; from recbole_signed.cli.app import main; main()"
    assert python("-c", code, **asked).stdout.split() == [found]


def test_models(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "models", "--json")
    found = {each["name"]: each for each in json.loads(out)}
    assert found["LightGCN"] == {
        "name": "LightGCN", "origin": "recbole", "family": "general", "uses_dislikes": False, "source": "",
        "refused": "",
    }  # fmt: skip
    assert found["GRU4Rec"]["family"] == "sequential"
    assert not found["GRU4Rec"]["refused"]
    assert "predicts the label" in found["FM"]["refused"]
    assert "knowledge graph" in found["CFKG"]["refused"] == found["KSR"]["refused"]
    out = printed(capsys, "models")
    assert "general: ADMMSLIM" in out
    assert "sequential: BERT4Rec" in out
    runs, _, refused = out.partition("Not on data with a sign:")
    assert "DeepFM" in refused
    assert "DeepFM" not in runs


def test_models_of_third_parties_come_first(tmp_path: Path, warm_python: WarmPython) -> None:
    (tmp_path / "my_models.py").write_text(
        "class Mine:\n    family = 'spectral'\n    source = 'Me 2024'\n    uses_dislikes = True\n"
        "class Plain:\n    pass\n",
        encoding="utf-8",
    )
    (tmp_path / "script.py").write_text(
        "import recbole_signed\n"
        "for name in ('Mine', 'Plain'): recbole_signed.register_model(name, 'my_models')\n"
        "from recbole_signed.cli.app import main\n"
        "main(['models'])"
    )
    done = warm_python.run(tmp_path / "script.py", cwd=tmp_path)
    assert done.status == 0, done.err
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "Mine * spectral Me 2024" in lines
    assert lines.index("Plain") < lines.index("RecBole's own models (they learn from likes alone):")


def test_convert(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_text("user,item,rating,time\na,x,5,1\na,y,1,2\nb,x,3,3\n", encoding="utf-8")
    words = [
        *("convert", "csv", "-i", "raw.csv", "-o"),
        *("out", "--name", "mine", "like=rating == 5", "dislike=rating <= 2"),
    ]
    out = printed(capsys, *words, "--json")
    document = json.loads(out)
    assert (document["path"], document["rows"]) == ("out/mine", {"total": 3, "like": 1, "dislike": 1, "neutral": 1})
    assert Path("out/mine/mine.inter").is_file()
    check_command_refused("mine", capsys, *words)
    out = printed(capsys, *words, "--overwrite")
    assert "out/mine: 3 rows (1 like, 1 dislike, 1 neutral), 2 users, 2 items" in out


@pytest.mark.parametrize("ok", [True, False])
def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ok: bool) -> None:
    asked = []

    def diagnose(self_test: bool) -> Any:
        asked.append(self_test)
        print("noise")
        return SimpleNamespace(ok=ok, as_dict=lambda: {"ok": ok})

    monkeypatch.setattr(doctor, "diagnose", diagnose)
    monkeypatch.setattr(doctor, "render", lambda report: f"well: {report.ok}")
    status, out, _ = outcome(capsys, "doctor", "--no-self-test", "--json")
    assert (status, json.loads(out)) == (0 if ok else 1, {"ok": ok})
    status, out, _ = outcome(capsys, "doctor")
    assert (status, out) == (0 if ok else 1, f"well: {ok}\n")
    assert asked == [False, True]


TABLE = "datasets: [toy-signed]\nmodels: [Pop, EASE]\ncolumns: [recall@10]\n"


@pytest.fixture
def table(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table whose runs take no time; EASE fails."""
    script = "if request.model == 'EASE': sys.exit('no luck')"
    monkeypatch.setattr(processes, "made", partial(scripted_run, script, "started", {"test": {"recall@10": 0.25}}))
    (tmp_path / "t.yaml").write_text(TABLE, encoding="utf-8")
    return "t.yaml"


def test_compare(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = outcome(capsys, "compare", table, "--json", "-j", "2")
    assert status == 1, "a run failed"
    assert [(row["model"], row["status"], row["reason"]) for row in json.loads(out)] == [
        ("Pop", "ok", None),
        ("EASE", "failed", "no luck"),
    ]
    assert "EASE on toy-signed, seed 2020 failed: no luck" in " ".join(err.split())
    out = printed(capsys, "compare", table, "--only", "Pop", "--latex", "t.tex")
    assert "*0.2500" in out
    assert r"\textbf{0.2500}" in Path("t.tex").read_text(encoding="utf-8")
    assert "failed: no luck" in Path("t.md").read_text(encoding="utf-8")
    for how, sign in (("markdown", "| **0.2500** |"), ("latex", r"\toprule")):
        out = printed(capsys, "compare", table, "--only", "Pop", "--format", how)
        assert sign in out


def test_names_of_an_option_may_have_commas_in_quotes() -> None:
    assert names_in(['A, B,"C, price 0"', "D", ""]) == ["A", "B", "C, price 0", "D"]
    assert names_in(None) == []


def test_a_file_is_not_suggested_for_its_ending_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("bin.yaml", "headline.yaml"):
        (tmp_path / name).touch()
    assert "did you mean" not in outcome(capsys, "compare", "nope.yaml")[2]
    assert "did you mean 'headline.yaml'?" in outcome(capsys, "compare", "hedline.yaml")[2]


def test_a_yaml_file_without_keys_changes_nothing(toy: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n", encoding="utf-8")
    words = ("run", "-m", "Pop", "-d", toy, "-c", "empty.yaml", "--no-save", "-q", "topk=[5]")
    assert "Recall@5" in printed(capsys, *words)


def test_errors_keep_their_traceback_and_interrupts_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("recbole_signed.cli.app.list_models", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["models"])

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole_signed.cli.app.list_models", interrupted)
    status, out, err = outcome(capsys, "models", "--json")
    assert (status, out) == (130, "")
    assert "Interrupted" in err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys)
    assert "compare" in out
    assert outcome(capsys, "--version")[:2] == (0, f"{__version__}\n")
    for command in ("run", "models", "convert", "doctor", "compare"):
        assert CliRunner().invoke(cli.app, [command, "--help"]).exit_code == 0


def test_options_and_arguments_are_written_alike_in_all_commands() -> None:
    group: Any = typer.main.get_command(cli.app)
    assert all(command.rich_help_panel for command in group.commands.values())
    assert group.commands["convert"].rich_help_panel == "Data"
    letters: dict[str, dict[str, set[str]]] = {}
    for path, command in leaves(group):
        for each in command.params:
            if each.param_type_name == "argument":
                assert each.metavar == each.metavar.upper() or each.metavar == "TABLE.yaml", path
                assert not set("[].") & set(each.metavar.removesuffix(".yaml")), path  # the usage line adds them
                continue
            short = " ".join(name for name in each.opts if not name.startswith("--"))
            for long in set(each.opts) - {short}:
                letters.setdefault(long, {}).setdefault(short, set()).add(" ".join(path))
    assert {name: found for name, found in letters.items() if len(found) > 1} == {}
    assert "--data-path" in letters


def test_help_and_output_in_any_terminal() -> None:
    page = process("run", "--help", COLUMNS="40")
    assert page.returncode == 0
    assert "--measure-serving" in page.stdout
    assert max(map(len, page.stdout.splitlines())) <= 40
    done = process("models", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0
    assert "─" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["like=rating >= 4", "dislike=rating <= 2", "time=none"],
        ["--like", "rating >= 4", "--dislike", "rating <= 2", "--time", "none"],
        ["--like=rating >= 4", "dislike=rating <= 2", "--time=none"],
    ],
)
def test_source_options_in_any_spelling(capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "rated.csv").write_text("user_id,item_id,rating\n1,2,5\n1,3,1\n")
    out = printed(capsys, "convert", "csv", "--input", "rated.csv", *words, "--json")
    rows = json.loads(out)["rows"]
    assert (rows["like"], rows["dislike"]) == (1, 1)
