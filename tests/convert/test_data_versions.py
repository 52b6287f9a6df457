"""Versions of data sets: what changes them, what notices a change, and how a change is accepted."""

import json
import os
from pathlib import Path

import pytest
from converted import Raw, manifest_of
from refusals import check_refused

from recbole_signed.convert import cleaning, convert
from recbole_signed.convert import dataset_versions as versions
from recbole_signed.convert.manifest import accept
from recbole_signed.errors import UsageError

ROWS = "user,item,sign,time\na,x,1,10\na,y,-1,20\nb,x,1,30\nb,y,0,40\n"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    (tmp_path / "raw.csv").write_text(ROWS)
    return convert("csv", tmp_path / "raw.csv", tmp_path / "data", time_unit="s")


def test_the_version_is_that_of_the_atomic_files_alone(tmp_path: Path, made: Path) -> None:
    version = manifest_of(made)["version"]
    assert len(version) == 12
    assert manifest_of(convert("csv", tmp_path / "raw.csv", tmp_path / "again", time_unit="s"))["version"] == version
    (tmp_path / "raw.csv").write_text(ROWS + "c,x\n")
    skipped = convert("csv", tmp_path / "raw.csv", tmp_path / "skip", time_unit="s", on_error="skip")
    assert (skipped / "raw.rejected.tsv").exists()
    assert manifest_of(skipped)["version"] == version
    (tmp_path / "raw.csv").write_text(ROWS.replace("b,y,0", "b,y,1"))
    assert manifest_of(convert("csv", tmp_path / "raw.csv", tmp_path / "other", time_unit="s"))["version"] != version
    record = manifest_of(made)
    del record["version"]  # as an earlier version of the package wrote it
    assert versions.version(record) == version


def test_files_that_change_places_and_features_make_another_version() -> None:
    made = {"d.train.inter": "a", "d.test.inter": "b", "d.item": "c", "d.yaml": "d"}
    version = versions.version_of(made)
    assert versions.version_of(dict(reversed(made.items()))) == version
    assert versions.version_of({**made, "d.yaml": "e"}) == version
    swapped, changed = {**made, "d.train.inter": "b", "d.test.inter": "a"}, {**made, "d.item": "e"}
    renamed = {name.replace("test", "tests"): content for name, content in made.items()}
    for other in (swapped, changed, renamed):
        assert versions.version_of(other) != version


def test_a_name_may_hold_what_a_pattern_is_made_of(tmp_path: Path, made: Path) -> None:
    record = manifest_of(made)
    made = convert("csv", tmp_path / "raw.csv", tmp_path, name="raw [v1]*", time_unit="s")
    assert manifest_of(made)["rows"] == record["rows"]
    assert [path.name for path in versions.atomic_files(made, made.name)] == ["raw [v1]*.inter"]
    assert versions.refuse_changed(made, made.name) == manifest_of(made)["version"]


def test_a_data_set_as_made_and_with_edited_settings(made: Path) -> None:
    assert versions.refuse_changed(made, "raw") == manifest_of(made)["version"]
    for thorough in (True, False):
        assert versions.changes(made, manifest_of(made), thorough=thorough) == []
    assert manifest_of(made)["bytes"] == {name: (made / name).stat().st_size for name in ("raw.inter", "raw.yaml")}
    with (made / "raw.yaml").open("a") as file:
        file.write("epochs: 3\n")
    assert versions.refuse_changed(made, "raw")
    assert "raw.yaml has" in versions.changes(made, manifest_of(made), thorough=True)[0]


@pytest.mark.parametrize("later", [True, False])
def test_a_changed_file_is_refused(made: Path, later: bool) -> None:
    path = made / "raw.inter"
    text = path.read_text()
    for changed in (text + "c\tx\t1\t50\n", text.replace("b\tx\t1", "b\tx\t0")):
        path.write_text(changed)
        if later:
            moment = (made / "dataset.json").stat().st_mtime_ns + 10**9
            os.utime(path, ns=(moment, moment))
        with pytest.raises(
            UsageError, match=r"the data set 'raw' has changed since it was made: .*raw.inter has"
        ) as error:
            versions.refuse_changed(made, "raw")
        assert "\n" not in str(error.value)
        assert str(error.value).endswith("or run 'recbole-signed data accept raw' if the change is intended.")
    path.write_text(text)
    assert versions.refuse_changed(made, "raw")
    path.unlink()
    check_refused(r"raw.inter is missing", versions.refuse_changed, made, "raw")


@pytest.mark.parametrize(
    ("change", "after"), [("b\tx\t0", 0), ("b\tx\t0", 10**9), ("b\tx\t1\t30\nb\tx\t1", -(10**9)), ("b\t1", -(10**9))]
)
def test_a_change_is_seen_whatever_time_the_file_bears(made: Path, change: str, after: int) -> None:
    """Of the moment of dataset.json, or later; or older, as a copy that keeps times leaves it, but of another size."""
    path, moment = made / "raw.inter", (made / "dataset.json").stat().st_mtime_ns - 100 * 10**9
    path.write_text(path.read_text().replace("b\tx\t1", change))
    for each, time in ((made / "dataset.json", moment), (path, moment + after)):
        os.utime(each, ns=(time, time))
    for _ in range(2):  # not the first time only
        check_refused("has changed since it was made", versions.refuse_changed, made, "raw")


def test_files_are_read_once_after_they_were_copied(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return sha256(path)

    sha256 = versions.sha256
    monkeypatch.setattr(versions, "sha256", counted)
    moment = (made / "dataset.json").stat().st_mtime_ns + 10**9
    os.utime(made / "raw.inter", ns=(moment, moment))
    past = moment - 2 * 10**9
    os.utime(made / "dataset.json", ns=(past, past))
    versions.refuse_changed(made, "raw")
    assert read == ["raw.inter"]
    read.clear()
    os.utime(made / "raw.inter", ns=(past, past))
    versions.refuse_changed(made, "raw")
    assert read == []


def test_what_is_not_ours_is_left_alone(tmp_path: Path, made: Path) -> None:
    assert versions.refuse_changed(tmp_path, "raw") is None
    (tmp_path / "dataset.json").write_text('{"rows": 3}')
    assert versions.refuse_changed(tmp_path, "raw") is None
    assert versions.refuse_changed(made, "another") is None
    (tmp_path / "dataset.json").write_text('{"rows": 3')
    check_refused(r"dataset.json is damaged .*; convert the data again", versions.refuse_changed, tmp_path, "raw")
    (made / "raw.png").touch()
    (made / "raw.txt").touch()
    assert versions.refuse_changed(made, "raw")
    (made / "raw.user").write_text("user_id:token\tage:float\na\t3\n")
    check_refused(r"raw.user is not in dataset.json", versions.refuse_changed, made, "raw")


def test_a_change_that_is_meant(made: Path) -> None:
    before = manifest_of(made)
    assert accept(made) == []
    assert manifest_of(made) == before
    with (made / "raw.inter").open("a") as file:
        file.write("c\tz\t-1\t50\n")
    (made / "raw.user").write_text("user_id:token\tage:float\na\t3\n")
    assert accept(made) == ["raw.inter", "raw.user"]
    after = manifest_of(made)
    assert after["rows"] == {"total": 5, "like": 2, "dislike": 2, "neutral": 1}
    assert (after["users"], after["items"]) == (3, 3)
    assert (after["time"]["last_raw"], after["time"]["first"]) == (50, "1970-01-01T00:00:10Z")
    assert after["changed_by_hand"] == ["raw.inter", "raw.user"]
    assert after["version"] != before["version"]
    assert {key: after[key] for key in ("source", "options", "inputs")} == {
        key: before[key] for key in ("source", "options", "inputs")
    }
    assert versions.refuse_changed(made, "raw") == after["version"]
    assert versions.changes(made, after, thorough=True) == []


def test_all_that_was_ever_changed_by_hand_is_listed(made: Path) -> None:
    (made / "raw.user").write_text("user_id:token\tage:float\na\t3\n")
    assert accept(made) == ["raw.user"]
    with (made / "raw.inter").open("a") as file:
        file.write("c\tz\t-1\t50\n")
    assert accept(made) == ["raw.inter"]
    assert manifest_of(made)["changed_by_hand"] == ["raw.inter", "raw.user"]


def test_accepting_many_rows_leaves_nothing_behind(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "MEMORY_ROWS", 1)
    with (made / "raw.inter").open("a") as file:
        file.write("c\tz\t-1\t50\n")
    assert accept(made) == ["raw.inter"]
    assert sorted(path.name for path in made.iterdir()) == ["dataset.json", "raw.inter", "raw.yaml"]


def test_times_that_have_no_date_get_none_when_a_change_is_accepted(made: Path) -> None:
    record = manifest_of(made)
    record["time"] = {"first_raw": 10, "last_raw": 40}  # as sources write it whose clock begins nobody knows when
    (made / "dataset.json").write_text(json.dumps(record))
    with (made / "raw.inter").open("a") as file:
        file.write("c\tz\t-1\t50\n")
    accept(made)
    assert manifest_of(made)["time"] == {"first_raw": 10, "last_raw": 50}
    assert manifest_of(made)["warnings"] == []


def test_the_fields_are_those_of_the_files_that_are_accepted(made: Path) -> None:
    lines = (made / "raw.inter").read_text().splitlines()
    ends = ["price:float", "1", "2", "3", "4"]
    (made / "raw.inter").write_text("".join(f"{line}\t{end}\n" for line, end in zip(lines, ends, strict=True)))
    (made / "raw.item").write_text("item_id:token\tgenre:token_seq\nx\ta b\ny\tc\n")
    before = manifest_of(made)["fields"]
    assert accept(made) == ["raw.inter", "raw.item"]
    assert manifest_of(made)["fields"] == {
        "inter": {**before["inter"], "price": "float"},
        "item": {"item_id": "token", "genre": "token_seq"},
    }


def test_a_change_that_cannot_be_accepted(tmp_path: Path, made: Path) -> None:
    (made / "raw.inter").write_text("user_id:token\titem_id:token\tsign:float\na\tx\t7\n")
    check_refused(r"raw.inter, line 2: sign 7", accept, made)
    (made / "raw.inter").unlink()
    check_refused(r"raw.inter is missing; put it back", accept, made)
    check_refused(r"has no dataset.json of recbole-signed", accept, tmp_path)


def test_a_published_split_is_counted_part_by_part(tmp_path: Path) -> None:
    parts = {f"{part}.txt": "1 1 1\n1 2 0\n" for part in ("train", "valid", "test")}
    made = Raw(tmp_path / "split", "signed-split", parts).made()
    with (made / "split.test.inter").open("a") as file:
        file.write("2\t2\t1\n")
    assert accept(made) == ["split.test.inter"]
    record = manifest_of(made)
    assert [each["rows"]["total"] for each in record["parts"].values()] == [2, 2, 3]
    assert record["rows"]["total"] == 7


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd"])
def test_a_record_of_a_data_set_names_its_own_files_only(tmp_path: Path, name: str) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"name": tmp_path.name, "outputs": {name: "0" * 64}}))
    check_refused("which lies outside its folder", versions.refuse_changed, tmp_path, tmp_path.name)
