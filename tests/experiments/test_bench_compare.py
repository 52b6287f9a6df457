import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars
import psutil
import pytest
from refusals import check_refused
from scripted import scripted_run
from waiting import until

from recbole_signed.convert.manifest import accept
from recbole_signed.plugin import make_config
from recbole_signed.runs import RunRow, TableSpec, compare, processes, runner
from recbole_signed.runs.processes import THREAD_VARIABLES, Job, end, environment
from recbole_signed.runs.rows import append_row, read_rows
from recbole_signed.runs.spec import RunSpec
from recbole_signed.runs.table_file import rows_file_of
from recbole_signed.runs.user_values import is_there

TABLE = """
title: Tiny
datasets: [toy-signed]
common: {metrics: [Recall, DislikeRecall], topk: [5], valid_metric: Recall@5, metric_decimal_place: 6, state: ERROR}
seeds: [1, 2]
columns: [recall@5, dislikerecall@5]
models:
  Pop: {}
  GRU4Rec: {seeds: [1], train_neg_sample_args: {distribution: uniform, sample_num: 1, alpha: 1.0}}
"""

Write = Callable[..., Path]

_FOLDERS = [str(Path(processes.__file__).parents[2]), str(Path(__file__).parents[1] / "support")]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(_FOLDERS)}


def requests(table: Path) -> list[RunSpec]:
    return list(TableSpec.read(table).requests())


def test_a_table_runs_once_and_a_failing_model_is_a_failed_row(write: Write) -> None:
    table = write(TABLE.replace("seeds: [1, 2]", "seeds: [1]"))
    first = compare(table, jobs=2)
    assert [(row.model, row.seed, row.ok) for row in first.rows] == [("Pop", 1, True), ("GRU4Rec", 1, False)]
    assert str(first).startswith("Tiny\n")
    assert first.n_new == 2
    assert "train_neg_sample_args" in str(first.rows[1].reason)
    pop, failed = first.table.sections[0].lines
    assert 0 < pop.cells[0].mean <= 1
    assert failed.failure.startswith("failed: RecBole refuses")
    markdown = table.with_suffix(".md")
    assert "| GRU4Rec | 1 | failed: RecBole refuses" in markdown.read_text(encoding="utf-8")
    assert not list(Path("runs").glob("*.pth"))
    row = first.rows[0]
    assert str(row.per_user).startswith("tiny.users/Pop-toy-signed-1-")
    assert is_there(row, table.with_suffix(".jsonl"))
    kept = polars.read_parquet(table.parent / str(row.per_user))
    assert [kept[metric].cast(polars.Float64).mean() for metric in row.test] == pytest.approx(
        list(row.test.values()), abs=1e-6
    )
    rows, before = table.with_suffix(".jsonl"), markdown.stat().st_mtime_ns
    assert all(row.peak_memory_bytes > row.base_memory_bytes > 0 for row in first.rows if row.ok)
    size, second = rows.stat().st_size, compare(table, only=["Pop"])
    assert second.n_new == 0
    assert rows.stat().st_size == size
    assert markdown.stat().st_mtime_ns == before
    assert [row.test for row in second.rows] == [first.rows[0].test]


def test_failed_runs_are_tried_again_and_finished_ones_are_not(write: Write, runs: Any) -> None:
    table = write(TABLE)
    runs.become("if request.model == 'GRU4Rec': sys.exit('no luck')")
    assert [row.reason for row in compare(table).failed] == ["no luck"]
    assert compare(table).n_new == 1
    started = runs.started()
    assert started.count("Pop on toy-signed, seed 1") == 1
    assert started.count("GRU4Rec on toy-signed, seed 1") == 2
    runs.become()
    assert not compare(table).failed
    assert compare(table).n_new == 0
    assert len(read_rows(table.with_suffix(".jsonl"))) == 5


CHILD = """
import sys
from functools import partial
from pathlib import Path
from recbole_signed.runs import compare, processes
from scripted import scripted_run

processes.made = partial(scripted_run, "time.sleep(0.5)", "started", {})
print(compare(Path(sys.argv[1])).n_new)
"""


def test_two_calls_on_one_table_do_not_make_a_run_twice(write: Write, tmp_path: Path) -> None:
    table = write(TABLE)
    words = [sys.executable, "-c", CHILD, str(table)]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(words, cwd=tmp_path, env=ENVIRONMENT, **pipes) for _ in range(2)]
    ended = [each.communicate(timeout=60) for each in both]
    assert [each.returncode for each in both] == [0, 0], ended
    assert sum(int(out) for out, _ in ended) == 3
    assert len((tmp_path / "started").read_text(encoding="utf-8").splitlines()) == 3
    assert len(read_rows(table.with_suffix(".jsonl"))) == 3
    assert all("[3/3, " in err or out == "0\n" for out, err in ended), "progress is told where there is no terminal"


def test_figures_that_another_machine_finds_too_leave_the_table_as_it_is(write: Write, runs: Any) -> None:
    table = write(TABLE)
    compare(table)
    rows, view, markdown = (table.with_suffix(ending) for ending in (".jsonl", ".view.json", ".md"))
    slower = [replace(row, fit_seconds=99.0) for row in read_rows(rows)]
    rows.unlink()  # as in a fresh clone, where the table is there and its rows are not
    for row in slower:
        append_row(rows, row)
    kept = view.read_text(encoding="utf-8"), markdown.read_text(encoding="utf-8")
    assert compare(table).table.sections[0].lines[0].cells[2].mean == 99
    assert (view.read_text(encoding="utf-8"), markdown.read_text(encoding="utf-8")) == kept
    append_row(rows, replace(slower[0], test={"recall@5": 0.75, "dislikerecall@5": 0.25}))
    compare(table)
    assert "0.6250" in markdown.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["quickstart", "ml-100k"])  # the two that README tells everybody to run
def test_u17_compare_leaves_nothing_changed_in_a_clone(name: str, write: Write, runs: Any, tmp_path: Path) -> None:
    """On another machine, with other times, after which git finds every tracked file as it was."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]

    def run(*words: str) -> str:
        return subprocess.run([*git, *words], check=True, capture_output=True, text=True).stdout

    ignored = Path(__file__).parents[2] / ".gitignore"
    (tmp_path / ".gitignore").write_text(ignored.read_text(encoding="utf-8"), encoding="utf-8")
    table = tmp_path / "yaml" / "bench" / f"{name}.yaml"
    table.parent.mkdir(parents=True)
    write(TABLE).rename(table)
    run("init", "--quiet")
    for seconds in (1.5, 99.0):
        runs.become(fit_seconds=seconds)
        assert compare(table).n_new == 3
        rows = rows_file_of(table)
        assert rows.parent == tmp_path / "results" / "bench"
        assert rows.with_suffix(".md").is_file()
        if seconds == 1.5:
            run("add", "yaml", "results", ".gitignore")
            run("commit", "--quiet", "-m", "Add a table")
            run("clean", "-fdXq", "results")  # as a clone is
            assert not rows.exists()
    assert run("status", "--porcelain", "yaml", "results") == ""


@pytest.mark.parametrize(
    ("before", "after", "n_new"),
    [
        ("  Pop: {}", "  Pop: {shrink: 2}", 2),
        ("state: ERROR", "state: ERROR, epochs: 7", 3),
        ("seeds: [1, 2]", "seeds: [1, 2, 3]", 1),
        ("title: Tiny", "title: Other", 0),
        ("  Pop: {}", '  "Most popular": {model: Pop}', 0),
        ("columns: [recall@5, dislikerecall@5]", "columns: [recall@5]", 0),
    ],
)
def test_what_changed_is_run_again(write: Write, runs: Any, before: str, after: str, n_new: int) -> None:
    compare(write(TABLE))
    changed = TABLE.replace(before, after)
    assert changed != TABLE
    assert compare(write(changed)).n_new == n_new


def test_changed_data_or_package_is_run_again(write: Write, runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write(TABLE)
    compare(table)
    with Path("atomic_files/toy-signed/toy-signed.yaml").open("a", encoding="utf-8") as file:
        file.write("epochs: 3\n")
    assert compare(table).n_new == 3, "the data set's own settings"
    with Path("atomic_files/toy-signed/toy-signed.inter").open("a", encoding="utf-8") as file:
        file.write("\n")
    check_refused("has changed since it was made", compare, table)
    assert len(runs.started()) == 6, "it is refused before anything runs"
    accept(Path("atomic_files/toy-signed"))
    assert compare(table).n_new == 3, "the data"
    monkeypatch.setattr("recbole_signed.runs.spec.__version__", "99.0")
    assert compare(table).n_new == 3, "the package"
    assert compare(table).n_new == 0


def test_variants_of_a_model_and_of_a_data_set(write: Write, runs: Any) -> None:
    text = TABLE.replace("  Pop: {}", '  Pop: {}\n  "Pop (1)": {model: Pop, epochs: 1, seeds: [1]}')
    text = text.replace(
        "[toy-signed]", '{toy-signed: {}, "toy by time": {dataset: toy-signed, eval_args: {order: TO}}}'
    )
    comparison = compare(write(text))
    assert [section.name for section in comparison.table.sections] == ["toy-signed", "toy by time"]
    assert [line.label for line in comparison.table.sections[0].lines] == ["Pop", "Pop (1)", "GRU4Rec"]
    assert {row.label for row in comparison.rows if row.model == "Pop"} == {"Pop", "Pop (1)"}
    assert len(runs.started()) == len(comparison.rows) == 7, "in the order of time nothing of Pop depends on the seed"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("os.kill(os.getpid(), 9)", "the process was ended by SIGKILL (out of memory?)"),
        (
            "raise ValueError('too\\nmany')",
            "it failed with ValueError (too many) under the settings metrics=[Recall, DislikeRecall]",
        ),
        ("os.environ['RECBOLE_SIGNED_TRACEBACK'] = '1'; raise ValueError('too\\nmany')", "many"),
        ("sys.exit(3)", "the process ended with status 3 and said nothing"),
        ("from recbole_signed.errors import UsageError; raise UsageError('wrong\\nkey')", "wrong key"),
        ("raise MemoryError('8 TB')", "there is not enough memory (8 TB); use a smaller model or batch, or a larger"),
        ("row = None", "the process ended with status 0 and said nothing"),
    ],
)
def test_reasons_of_failures(write: Write, runs: Any, script: str, reason: str) -> None:
    runs.become(script)
    row = compare(write(TABLE), only=["GRU4Rec"]).rows[0]
    assert (row.status, str(row.reason)[: len(reason)]) == ("failed", reason)
    assert row.test == {}
    assert row.data_sha256
    assert row.versions


def test_a_run_on_other_data_than_was_asked_for_is_no_row(write: Write, runs: Any) -> None:
    runs.become("row = RunRow('Pop', 'toy-signed', 1, data_sha256='of other files')")
    found = compare(write(TABLE), only=["Pop"])
    assert [row.ok for row in found.rows] == [False, False]
    assert "the files of the data set have changed since the table was begun" in str(found.rows[0].reason)


def test_output_folder_and_latex(write: Write, runs: Any, tmp_path: Path) -> None:
    table = write(TABLE)
    compare(table, output=tmp_path / "results" / "new")
    written = sorted(path.name for path in (tmp_path / "results" / "new").iterdir())
    assert written == ["tiny.jsonl", "tiny.md", "tiny.view.json"]
    assert [path.name for path in table.parent.iterdir()] == ["tiny.yaml"]


def test_a_folder_that_takes_no_rows_is_refused_before_anything_runs(write: Write, runs: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file"):
        compare(write(TABLE), output=tmp_path / "file")
    assert runs.started() == []


def test_jobs_run_side_by_side_and_share_the_cores(write: Write, runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 6)
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert environment(3)["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    runs.become(  # none ends before all have begun
        "env = os.environ; told = env['OMP_NUM_THREADS'] + env['MKL_NUM_THREADS']\n"
        "open(f'threads-{os.getpid()}', 'w').write(told)\n"
        "last = time.monotonic() + 60\n"
        "while len([name for name in os.listdir() if name.startswith('threads-')]) < 3:\n"
        "    time.sleep(0.02)\n"
        "    if time.monotonic() > last: sys.exit('alone')"
    )
    assert not compare(write(TABLE), jobs=3).failed
    assert [path.read_text() for path in Path().glob("threads-*")] == ["11"] * 3


def test_an_interrupt_ends_the_children_and_keeps_finished_rows(write: Write, tmp_path: Path) -> None:
    table = write(TABLE)
    script = f"""
from functools import partial
from recbole_signed.runs import compare, processes
from scripted import scripted_run
tell = 'open("pids", "a").write(str(os.getpid()) + chr(10)); '
processes.made = partial(scripted_run, tell + "request.seed == 2 and time.sleep(60)", "started", {{}})
compare({str(table)!r}, only=["Pop"])
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE)
    pids = tmp_path / "pids"
    until(lambda: pids.exists() and pids.read_text().count("\n") == 2)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in stderr
    assert process.returncode != 0
    for pid in map(int, pids.read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert [row.seed for row in read_rows(table.with_suffix(".jsonl"))] == [1]
    assert not list(tmp_path.glob("runs/**/*.json"))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("title:", "titel:", r"unknown key 'titel' \(.*\); did you mean 'title'\?$"),
        ("  Pop:", "  Popp:", "no model named 'Popp'; did you mean 'Pop'"),
        ("[toy-signed]", "[toy-signd]", "no data set 'toy-signd'"),
        ("[toy-signed]", "7", "'datasets' must be a list of names"),
        ("[toy-signed]", "[toy-signed, toy-signed]", "'datasets' names toy-signed twice"),
        ("[toy-signed]", "[]", "a table needs 'datasets'"),
        ("seeds: [1, 2]", "seeds: [1, 1]", "'seeds' must be different whole numbers"),
        ("seeds: [1]", "seeds: x", "GRU4Rec: 'seeds' must be"),
        ("seeds: [1, 2]", "seeds: [1, -1]", "'seeds' holds -1; each must be a whole number 0 or more"),
        ("seeds: [1]", "seeds: 4294967296", "GRU4Rec: 'seeds' holds 4294967296; each"),
        ("seeds: [1, 2]", "<<<<<<< HEAD\nseeds: [1, 2]\n=======\nseeds: [2]\n>>>>>>> b", "merge conflict in line"),
        ("[recall@5, dislikerecall@5]", "[ndcg@5]", "add ndcg to 'metrics'"),
        ("[recall@5, dislikerecall@5]", "[recall@10]", "add 10 to 'topk'"),
        ("columns: [recall@5, dislikerecall@5]", "", "or name the table's 'columns'"),
        ("[recall@5, dislikerecall@5]", "[recall@]", "must read like recall@20"),
        ("[recall@5, dislikerecall@5]", "recall", "'columns' must be a list"),
        ("common: {metrics", "common: [a]\nx: {metrics", "unknown key 'x'"),
    ],
)
def test_bad_tables(write: Write, before: str, after: str, message: str) -> None:
    changed = TABLE.replace(before, after)
    assert changed != TABLE
    check_refused(message, compare, write(changed))


def test_bad_arguments(write: Write) -> None:
    table = write(TABLE)
    check_refused(r"no model 'Pip'; it has .*; did you mean 'Pop'.$", compare, table, only=["Pip"])
    check_refused(r"no model 'Pip'; it has .*; did you mean 'Pop'.$", compare, table, only="Pip")
    for jobs in (0, "2", 1.5):
        check_refused(f"jobs is {jobs!r}; it must be a whole number of 1 or more", compare, table, jobs=jobs)
    check_refused("path is of type NoneType; give a path", compare, None)
    table = write(TABLE.replace("  GRU4Rec: {", "  GRU4Rec: {per_dataset: {toy-signed: false}, "))
    check_refused("asks for no run: 'per_dataset' leaves every model out", compare, table, only=["GRU4Rec"])


def test_columns_may_come_from_defaults_and_protocols(write: Write) -> None:
    text = "datasets: [toy-signed]\nmodels: [Pop]\ncolumns: [COLUMN]\n"
    assert len(requests(write(text.replace("COLUMN", "signauc")))) == 1
    published = text.replace("COLUMN", "dislikendcg@15") + "common: {protocol: published}\n"
    assert len(requests(write(published))) == 1
    check_refused("not evaluated for Pop", requests, write(text.replace("COLUMN", "dislikendcg@15")))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("recall", "'recall' has no length; write recall@10"),
        ("signauc@10", "'signauc@10' has a length; write signauc"),
        ("grouprecall@10", r"'grouprecall@10' must name a group, such as recall@10\[users 1-5\]"),
        ("groupshare", r"'groupshare' must name a group, such as groupshare\[users 1-5\]"),
        ("groupndcg@10[users 1-5]", r"must name a group, such as ndcg@10\[users 1-5\]"),
        ("groupshare[users 1-5]", "add groupshare to 'metrics'"),
        ("recall@10[users 1-5]", "add grouprecall to 'metrics'"),
    ],
)
def test_a_column_that_no_run_fills_is_refused(write: Write, column: str, message: str) -> None:
    table = f"datasets: [toy-signed]\nmodels: [Pop]\ncolumns: ['{column}']\n"
    check_refused(message, requests, write(table))
    if "add group" in message:
        every = "common: {metrics: [Recall, GroupRecall, GroupShare]}\n"
        assert len(requests(write(table + every))) == 1


@pytest.mark.parametrize("settings", ["{SIGN_FIELD: ~}", "{eval_args: {mode: uni20}}", "{eval_args.mode: uni20}"])
def test_a_column_of_dislikes_needs_dislikes_that_are_held_out(write: Write, settings: str) -> None:
    text = f"datasets: [toy-signed]\nmodels: [Pop]\ncolumns: [recall@10, signauc]\ncommon: {settings}\n"
    check_refused("'signauc' is not evaluated for Pop", requests, write(text))


@pytest.mark.skipif(sys.platform != "linux", reason="runs are forked on Linux alone")
def test_the_death_of_the_process_that_forks_costs_no_run(write: Write, runs: Any) -> None:
    runs.become("request.seed == 1 and os.kill(os.getppid(), 9)")
    assert not compare(write(TABLE), jobs=1).failed
    assert len(runs.started()) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="runs are forked on Linux alone")
def test_a_run_whose_process_that_forks_was_killed_can_be_ended(tmp_path: Path) -> None:
    script = "os.kill(os.getppid(), 9); time.sleep(100)"
    request = RunSpec("Pop", "toy-signed", "Pop", "toy-signed", 1, {}, "", "")
    job = Job(processes._send_row, (partial(scripted_run, script, "started", {}), request), tmp_path / "log", 1)
    until(lambda: job.process.exitcode is not None, seconds=60)
    assert psutil.pid_exists(job.process.pid)
    end([job])
    until(lambda: not psutil.pid_exists(job.process.pid), seconds=60)


SCRIPT = """
import sys
import recbole_signed
print("begun")
recbole_signed.register_model("OwnPop", "own_pop", properties="own.yaml")
done = recbole_signed.compare(sys.argv[1], only=["OwnPop"])
print([(row.ok, row.reason) for row in done.rows])
"""


def test_a_script_need_not_be_guarded_and_its_own_model_is_run(write: Write, tmp_path: Path) -> None:
    (tmp_path / "own_pop.py").write_text("from recbole.model.general_recommender import Pop\nclass OwnPop(Pop): pass\n")
    (tmp_path / "own.yaml").write_text("{}")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    words = [sys.executable, "script.py", str(write(TABLE.replace("Pop: {}", "OwnPop: {seeds: [1]}")))]
    done = subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["begun", "[(True, None)]"], done.stderr


def test_a_run_ends_with_the_process_that_asked_for_it(write: Write, tmp_path: Path) -> None:
    """A process that is killed tells its runs nothing."""
    act = "open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    words = [sys.executable, "-c", CHILD.replace("time.sleep(0.5)", act), str(write(TABLE))]
    with subprocess.Popen(words, cwd=tmp_path, env=ENVIRONMENT) as process:
        file = tmp_path / "pid"
        until(lambda: file.exists() and file.read_text() != "", seconds=60)
        process.kill()
    until(lambda: not psutil.pid_exists(int(file.read_text())), seconds=60)


def test_a_run_is_one_of_the_library_with_what_the_table_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(runner, "run", lambda *words, **named: asked.update(words=words, **named))
    settings = {"eval_args": {"order": "TO"}, "learning_rate": 1e-05}
    request = RunSpec("Pop", "toy-signed", "Pop", "toy-signed", 1, settings, "", "", serving=True)
    processes.made(request)
    assert asked == {
        "words": ("Pop", "toy-signed"), "overrides": settings, "seed": 1, "save": False, "per_user": None,
        "serve": True,
    }  # fmt: skip
    processes.made(replace(request, per_user=Path("x"), serving=False))
    assert (asked["per_user"], asked["serve"]) == (Path("x"), False)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("topkk: [5]", r"GRU4Rec on toy-signed: unknown configuration key 'topkk' .*; did you mean 'topk'\?$"),
        ("eval_args: {ordr: TO}", "GRU4Rec on toy-signed: 'eval_args' has no entry 'ordr'; did you mean 'order'"),
        ("eval_args.ordr: TO", "GRU4Rec on toy-signed: 'eval_args' has no entry 'ordr'; did you mean 'order'"),
        ("allow_unknown_keys: true, topkk: [5]", None),
    ],
)
def test_a_misspelt_key_is_refused_before_any_run(write: Write, runs: Any, key: str, message: str | None) -> None:
    table = write(TABLE.replace("{seeds: [1], ", f"{{seeds: [1], {key}, "))
    if message is None:
        assert compare(table).n_new == 3
        return
    check_refused(message, compare, table)
    assert not runs.started()


def test_no_key_that_a_run_takes_is_refused(toy: str) -> None:
    for model in ("SSFL", "GRU4Rec", "SGCN"):
        keys = make_config(model, toy).internal_config_dict
        settings = {key: value for key, value in keys.items() if key != "MODEL_TYPE"}  # which RecBole adds
        RunSpec(model, toy, model, toy, 1, settings, "", "").refuse_unknown_keys()


def test_a_cut_off_row_is_run_again(write: Write, runs: Any) -> None:
    table = write(TABLE)
    compare(table)
    rows = table.with_suffix(".jsonl")
    rows.write_bytes(rows.read_bytes()[:-20])
    assert compare(table).n_new == 1
    assert compare(table).n_new == 0
    append_row(rows, RunRow("Pop", "elsewhere", 1))
    assert compare(table).n_new == 0
