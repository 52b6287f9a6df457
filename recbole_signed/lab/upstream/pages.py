"""The texts that go beside a model in RecBole's repository: yaml, test, documentation and the list of models."""

from __future__ import annotations

import itertools
import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libcst import ClassDef

from recbole_signed.lab.upstream.bundle import ExportRecipe
from recbole_signed.lab.upstream.modules import SourceModule, plain_docstrings
from recbole_signed.plugin.assignments import yaml_if_there

ALL_IN_ONE_BATCH = 1_000_000_000  # `train_batch_size` for one batch of all likes: stock RecBole does not read 0 as that
TRAINER_KEYS = ("lr_milestones", "lr_gamma", "training_budget", "max_steps", "eval_every_steps")
"""Keys of ``SignedTrainer`` that RecBole's trainer does not read."""
HIDE = (
    "hide_dislikes: True             # (bool) Whether the full ranking leaves out what a user disliked in training.\n"
)
_LINE = re.compile(r"^(?P<key>\w+):\s*(?P<value>.*?)\s*#\s*\((?P<kind>[^)]*)\)\s*(?P<text>.*)$")


class Kind:
    """A kind of RecBole's models, ``general`` or ``sequential``, and where those are in a checkout."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.package = f"recbole.model.{name}_recommender"
        self.folder = self.package.replace(".", "/")
        self.init = f"{self.folder}/__init__.py"  # the file with their imports
        self.api = f"docs/source/recbole/{self.package}.rst"  # the list of their API pages
        self.guide = f"docs/source/user_guide/model/{name}"  # the folder of their pages in the user guide
        self.tests = f"Test{name.title()}Recommender"  # the class of their tests


GENERAL, SEQUENTIAL = Kind("general"), Kind("sequential")


def properties(yaml: str, recipe: ExportRecipe, kind: Kind = GENERAL) -> str:
    """Return the default yaml without the keys that stock RecBole does not read, and with what it reads otherwise."""
    lines = []
    for line in yaml.splitlines():
        key = line.partition(":")[0]
        if key in TRAINER_KEYS or key in recipe.keys:
            continue
        if key == "train_batch_size":
            all_in_one = re.match(r"train_batch_size:\s*0\s", line) is not None
            size = str(ALL_IN_ONE_BATCH) if all_in_one else line.partition(":")[2].split()[0]
            text = f"The number of {_IN_A_BATCH[kind]} in a batch" + ("; so many: all of them." if all_in_one else ".")
            line = f"{f'train_batch_size: {size}':<32}# (int) {text}"
        for phrase, other in recipe.rewordings.items():
            line = line.replace(phrase, other)
        lines.append(line)
    return "\n".join([*lines, HIDE if kind == GENERAL else ""])  # RecBole hides nothing from sequential models


def parameters(yaml: str) -> list[tuple[str, str, str, str]]:
    """Return (key, type, description, default) of each line of a default yaml."""
    matches = [_LINE.match(line) for line in yaml.splitlines()]
    return [(match["key"], match["kind"], match["text"], match["value"]) for match in matches if match is not None]


def test_method(model: str) -> str:
    """Return the method for RecBole's ``tests/model/test_model_auto.py``."""
    return (
        f"    def test_{model.lower()}(self):\n        config_dict = {{\n"
        f'            "model": "{model}",\n        }}\n        quick_test(config_dict)\n'
    )


def model_list_row(what: Description, author: str, year: int, kind: Kind = GENERAL) -> dict[str, Any]:
    """Return the entry of RecBole's ``asset/model_list.json``."""
    paper = what.citations[0] if what.citations else None
    return {
        "category": f"{kind.name.title()} Recommendation",
        "cate_link": f"/docs/user_guide/model_intro.html#{kind.name}-recommendation",
        "year": paper.year if paper else str(year),
        "pub": paper.short_venue if paper else "",
        "model": what.model,
        "model_link": f"/docs/user_guide/model/{kind.name}/{what.model.lower()}.html",
        "paper": paper.title if paper else what.title,
        "paper_link": paper.link if paper else "",
        "authors": paper.authors if paper else author,
        "ref_code": "",
        "repository": "RecBole",
        "repo_link": "https://github.com/RUCAIBox/RecBole",
    }


def model_list_text(row: dict[str, Any]) -> str:
    """Return the entry as it is indented in that file, with the comma that follows."""
    text = json.dumps(row, indent=4, ensure_ascii=False)
    return "\n".join(f"      {line}" for line in text.splitlines()) + ","


def api_page(model: str, kind: Kind = GENERAL) -> str:
    """Return the page of the API documentation."""
    return f".. automodule:: {kind.package}.{model.lower()}\n   :members:\n   :undoc-members:\n   :show-inheritance:\n"


def user_page(what: Description, yaml: str, ranges: dict[str, Any], author: str, kind: Kind = GENERAL) -> str:
    """Return the page of the user guide, in the form of RecBole's pages."""
    name = what.model
    paper = what.citations[0] if what.citations else None
    lines = [name, "=" * max(len(name), 11), "", "Introduction", "-" * 21, ""]
    if paper and paper.link:
        lines += [f"`[paper] <{paper.link}>`_", ""]
    lines += [f"**Title:** {paper.title if paper else what.title}", ""]
    lines += [f"**Authors:** {paper.authors if paper else author}", ""]
    lines += ["**Method:**", "", what.method.strip(), "", "Running with RecBole", "-" * 25, ""]
    lines += ["**Model Hyper-Parameters:**", ""]
    lines += [f"- ``{key} ({kind})`` : {text} Defaults to ``{value}``." for key, kind, text, value in parameters(yaml)]
    lines += ["", "", DISLIKES[kind], "", _RUNNING.format(name=name), "", "Tuning Hyper Parameters", "-" * 25, ""]
    if ranges:
        settings = [f"   {key} choice [{','.join(map(str, values))}]" for key, values in ranges.items()]
        lines += [_COPY, "", ".. code:: bash", "", *settings, "", _REFERENCE_ONLY, ""]
    return "\n".join([*lines, _TUNING])


_DISLIKES = """**Data with Dislikes:**

The interactions are likes. Dislikes of the training part may be given in an additional atomic file
``[dataset_name].dislike``, in the folder of the data set, with the columns ``dislike_user_id:token``{}
``dislike_item_id:token``{}, and these settings:

.. code:: yaml

   load_col:
     inter: [user_id, item_id{}]
     dislike: [dislike_user_id, dislike_item_id{}]
   additional_feat_suffix: [dislike]
   alias_of_user_id: [dislike_user_id]
   alias_of_item_id: [dislike_item_id]

"""
_OF_ANY_TIME = """\
RecBole does not split an additional file: leave dislikes of the validation and test periods out of it. Without the file
the model learns from likes alone. Rows of dislikes must not be among the interactions that are evaluated: RecBole
counts every held-out interaction as a hit. If the ``.inter`` file has a column ``sign`` of 1 and -1, let
``val_interval: {sign: "[1,1]"}`` keep the likes."""

_OF_TIMES = """\
A dislike is in each sequence of its user whose target is later. RecBole does not split an additional file: leave
dislikes of the validation and test periods out of it. Without the file all events are likes. Times are 32-bit floats,
which hold seconds since 1970 in steps of 64 or 128: count them from the first event of the data. If the ``.inter`` file
has a column ``sign`` of 1 and -1, load it and let ``val_interval: {sign: "[1,1]"}`` keep the likes."""

_TIMES = (",", " and ``dislike_timestamp:float``", ", timestamp", ", dislike_timestamp")
DISLIKES = {
    GENERAL: _DISLIKES.format(" and", "", "", "") + _OF_ANY_TIME,
    SEQUENTIAL: _DISLIKES.format(*_TIMES) + _OF_TIMES,
}
"""What the page of a model says of dislikes."""
_IN_A_BATCH = {GENERAL: "likes", SEQUENTIAL: "sequences"}

_RUNNING = """**A Running Example:**

Write the following code to a python file, such as `run.py`

.. code:: python

   from recbole.quick_start import run_recbole

   run_recbole(model='{name}', dataset='ml-100k')

And then:

.. code:: bash

   python run.py"""

_COPY = (
    "If you want to use ``HyperTuning`` to tune hyper parameters of this model, you can copy the following settings "
    "and name it as ``hyper.test``."
)
_REFERENCE_ONLY = (
    "Note that we just provide these hyper parameter ranges for reference only, and we can not guarantee that they are "
    "the optimal range of this model."
)
_TUNING = """With the source code of RecBole (you can download it from GitHub), you can run the ``run_hyper.py`` to \
tuning:

.. code:: bash

	python run_hyper.py --model=[model_name] --dataset=[dataset_name] --config_files=[config_files_path] \
--params_file=hyper.test

For more details about Parameter Tuning, refer to :doc:`../../../user_guide/usage/parameter_tuning`.


If you want to change parameters, dataset or evaluation settings, take a look at

- :doc:`../../../user_guide/config_settings`
- :doc:`../../../user_guide/data_intro`
- :doc:`../../../user_guide/train_eval_intro`
- :doc:`../../../user_guide/usage`
"""


def contribution(
    model: str, files: list[tuple[str, str]], inserted: bool, notes: list[str], kind: Kind = GENERAL
) -> str:
    """Return what goes where, and what a run in stock RecBole counts, as Markdown."""
    rows = "\n".join(f"| `{path}` | {what} |" for path, what in files)
    place = (
        "The lines below were put into the files of this checkout; `git diff` shows them."
        if inserted
        else "Files under `insert/` hold lines that belong into the file of that name; the others are whole files."
    )
    text = "\n".join(f"- {note}" for note in notes)
    counts = _COUNTS[kind]
    return _CONTRIBUTION.format(
        model=model, lower=model.lower(), rows=rows, place=place, counts=counts, notes=text, kind=kind
    )


_COUNTS = {
    GENERAL: """\
- Every interaction is a like: in training, in what is not recommended again, and in the ground truth.
- Dislikes of the training part come from the additional file `<dataset>.dislike` (see the page of the model for the
  settings). With `hide_dislikes: True` they are not recommended to that user in the full ranking.
- Without that file the model learns from likes alone.
- Rows with a `sign` in the `.inter` file are understood by the model too, but not by RecBole's evaluation, which counts
  a held-out dislike as a hit: keep them out by `val_interval: {sign: "[1,1]"}`.""",
    SEQUENTIAL: """\
- Every interaction is a like: in training, in the sequences, and in the ground truth. RecBole hides nothing that a user
  has seen from sequential models.
- Dislikes of the training part come from the additional file `<dataset>.dislike` with their times (see the page of the
  model for the settings), and stand in the sequences where these say. Without that file all events are likes.
- Rows of the `.inter` file whose `sign` is loaded and not above 0 are refused, as RecBole would take them for likes:
  keep them out by `val_interval: {sign: "[1,1]"}`.
- Times are 32-bit floats, which round seconds since 1970 to 64 or 128: count them from the first event of the data.""",
}

_CONTRIBUTION = """# {model} for RecBole

The model is one file that needs RecBole's own requirements alone (Python 3.8 or newer), formatted by black. {place}

| file | what |
|---|---|
{rows}

## What a run counts

{counts}
{notes}

## Before it is sent

```bash
python -m black --check {kind.folder}/{lower}.py
python -m pytest tests/model/test_model_auto.py -k test_{lower}
```

Add the paper's abstract to the page in `{kind.guide}/`, and the links that are empty in the row
of `asset/model_list.json`.
"""


def tuning_ranges(path: Path, recipe: ExportRecipe) -> dict[str, Any]:
    """Return the lists of values of a search space's file, of the keys that the exported model has."""
    left_out = (*recipe.keys, *TRAINER_KEYS)
    read = yaml_if_there(path)
    return {key: values for key, values in read.items() if isinstance(values, list) and key not in left_out}


_CITATION = re.compile(r'^(?P<authors>[^"]+?)\. "(?P<title>.+?)"\s*(?:in\s+)?(?P<rest>.*)$', re.IGNORECASE)
_URL = re.compile(r"https?://\S+")
_ENTRY = re.compile(r'\n(?=\s{4}(?:https?://|[^"\n]+\. "))')  # a line that goes on with one is indented like the first


@dataclass(frozen=True)
class Citation:
    """A paper."""

    authors: str
    title: str
    venue: str  # as it is written, with the year
    link: str  # empty where none is given

    @classmethod
    def parse(cls, text: str) -> Citation | None:
        """Read ``Authors. "Title." in VENUE YEAR. https://link``; None if it is not written so."""
        match = _CITATION.match(" ".join(text.split()))
        if match is None:
            return None
        url = _URL.search(match["rest"])
        venue = _URL.sub("", match["rest"]).strip(" .")
        return cls(match["authors"].strip(), match["title"].rstrip("."), venue, url[0] if url else "")

    @property
    def year(self) -> str:
        """The year of publication, or an empty text."""
        years = re.findall(r"\b(?:19|20)\d\d\b", self.venue)
        return years[-1] if years else ""

    @property
    def short_venue(self) -> str:
        """``SIGIR'24``, as the list of models has it; the venue itself where it is not one word and a year."""
        name = self.venue.replace(self.year, "").strip(" ,.") if self.year else self.venue
        if not name and "arxiv" in self.link:
            name = "arXiv"
        return f"{name}'{self.year[2:]}" if re.fullmatch(r"[A-Za-z]+", name) and self.year else self.venue

    def __str__(self) -> str:
        venue = f"arXiv {self.venue}" if self.venue == self.year and "arxiv" in self.link else self.venue
        return f'{self.authors}. "{self.title}."' + (f" in {venue}." if venue else "")


@dataclass(frozen=True)
class Description:
    """What a model is."""

    model: str
    title: str  # in a few words
    citations: list[Citation]  # its papers; none for a model that has none
    method: str  # the docstring of its class, reStructuredText

    @classmethod
    def from_module(cls, module: SourceModule, model: str, dropped: tuple[str, ...]) -> Description:
        """Read the docstrings of a model's module and class; sentences on what is dropped are left out."""
        paragraphs = (module.tree.get_docstring() or model).split("\n\n")
        head = paragraphs[0].splitlines()
        if len(head) > 1 and set(head[1]) == {"#"}:  # RecBole's own form
            papers = list(itertools.takewhile(lambda line: line.startswith(" "), head[3:]))  # not "Reference code:"
            entries = _ENTRY.split("\n".join(papers)) if papers else []
            title = " ".join(head[2:]) if not entries else model
        else:
            title, entries = " ".join(head), paragraphs[1:]
        citations = [citation for entry in entries if (citation := Citation.parse(entry.strip())) is not None]
        statement = module.definitions[model]
        method = statement.get_docstring() if isinstance(statement, ClassDef) else ""
        short = title.removeprefix(f"{model}:").partition("Source:")[0].strip(" .") or model
        return cls(model, short, citations, without_sentences(plain_docstrings(method or short), dropped))


def without_sentences(text: str, about: tuple[str, ...]) -> str:
    """Return a docstring without the sentences that mention one of the names ``about``."""
    if not about:
        return text
    mark = re.compile("|".join(rf"``{name}``|:meth:`{name}`" for name in about))
    paragraphs = []
    for paragraph in text.split("\n\n"):
        if mark.search(paragraph):
            indent = paragraph[: len(paragraph) - len(paragraph.lstrip())].replace("\n", "")
            sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split()))
            kept = " ".join(sentence for sentence in sentences if not mark.search(sentence))
            paragraph = textwrap.fill(kept, 110, initial_indent=indent, subsequent_indent=indent)
        if paragraph.strip():
            paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)
