"""Yaml files: the one reader, their content as a pydantic model, and one sentence on what is wrong with them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from recbole_signed.errors import UsageError, ending

MAX_VALUES = 1_000_000  # of a file, those behind each alias counted each time: aliases of aliases grow
MAX_WHOLE = 2**64  # whole numbers beyond it fit no column, seed or size
_BOOL = "tag:yaml.org,2002:bool"
_CONFLICT = re.compile("^(<{7}|>{7})( |$)", re.MULTILINE)


class Loader(yaml.SafeLoader):
    """YAML that reads ``1e-3`` as a number, ``on`` as a word, and refuses what no file, column or memory can hold."""

    def get_single_node(self) -> yaml.Node | None:
        """Return the top of the document."""
        top = super().get_single_node()
        if top is not None and _size(top, {}) > MAX_VALUES:
            what = f"it holds more than {MAX_VALUES:,} values, aliases counted each time, or an alias within itself"
            raise _wrong(what, top.start_mark)
        return top

    def get_single_data(self) -> Any:
        """Return the content of the document."""
        try:
            return super().get_single_data()
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:  # of dates, !!int x, ...
            raise _wrong(f"a value is not what its form or its tag says ({type(error).__name__}: {error})") from error

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        """Return the text of a node."""
        text = super().construct_scalar(node)
        if isinstance(text, str) and ("\0" in text or any("\ud800" <= character <= "\udfff" for character in text)):
            raise _wrong(f"{text[:80]!r} has a character that no text in UTF-8 or file name holds", node.start_mark)
        return text

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return the whole number of a node."""
        number: int = super().construct_yaml_int(node)
        if not -MAX_WHOLE < number < MAX_WHOLE:
            raise _wrong(f"the whole number {node.value[:30]} has more than 64 bits", node.start_mark)
        return number

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value == "<<":
                continue
            if key_node.tag == _BOOL:  # on, off, yes and no are names here, such as those of variants
                key_node.tag = yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG
            key = key_node.value
            if key in seen:
                raise _wrong(f"the key '{key}' is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _wrong(what: str, mark: yaml.Mark | None = None) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, mark)


def _size(node: yaml.Node, known: dict[int, float]) -> float:
    """Return how many values a node stands for; infinity where it holds itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = (part for entry in inner for part in (entry if isinstance(entry, tuple) else (entry,)))
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)


class Dumper(yaml.SafeDumper):
    """YAML that :class:`Loader` reads back: text that it would take for a number is quoted."""


for _kind in (Loader, Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"),
        list("-+0123456789."),
    )


def yaml_text(value: object, *, flow: bool = False, allow_unicode: bool = False) -> str:
    """Return a value as yaml that :class:`Loader` reads back; ``flow`` in one line, ``allow_unicode`` for people."""
    text: str = yaml.dump(
        value, Dumper=Dumper, sort_keys=False, default_flow_style=flow, allow_unicode=allow_unicode, width=2**30
    )
    return text


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a yaml file whose top is a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        beside = {file.stem: file.name for file in path.parent.glob("*.y*ml")} if path.parent.is_dir() else {}
        raise UsageError(f"can't read {path}: {error.strerror}{ending(path.stem, beside, beside)}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not valid yaml: it is not text in UTF-8 ({error.reason}).") from error
    try:
        content = yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        conflict = _CONFLICT.search(text)
        if conflict:
            line = text.count("\n", 0, conflict.start()) + 1
            raise UsageError(f"{path} has the mark of a merge conflict in line {line}; settle the conflict.") from error
        raise UsageError(f"{path} is not valid yaml: {one_line(error)}") from error
    content = {} if content is None else content
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(f"{path} must hold 'key: value' lines at its top, but holds {type(content).__name__}.")
    return content


def one_line(error: yaml.YAMLError) -> str:
    """Return the message of an error without its line breaks; of a tab, which is no blank in yaml, in plain words."""
    mark, problem = (getattr(error, name, None) for name in ("problem_mark", "problem"))
    if mark is not None and "'\\t'" in (problem or ""):
        return f"line {mark.line + 1} has a tab where only spaces may stand; indent with spaces."
    return " ".join(str(error).replace('in "<unicode string>", ', "").split())


class Spec(BaseModel):
    """What a file, or a part of it, may hold; the description of a field says what its value must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")


AnySpec = TypeVar("AnySpec", bound=Spec)


def checked(kind: type[AnySpec], content: Mapping[str, Any], where: str | Path) -> AnySpec:
    """Return content as a pydantic model; ``where``, the file or its part, begins the sentence on what is wrong."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{where}: {_sentence(kind, error.errors()[0])}") from error


def _sentence(kind: Any, error: Any) -> str:
    place, inner = error["loc"], kind
    for part in place[:-1]:  # models and mappings within the model
        if _is_spec(inner):
            inner = inner.model_fields[part].annotation if part in inner.model_fields else None
        else:
            inner = (get_args(inner) or (None,))[-1]
    fields = inner.model_fields if _is_spec(inner) else {}
    where = ".".join(part for part in place if isinstance(part, str))
    if error["type"] == "value_error":
        message = str(error["ctx"]["error"])
        return message if message.endswith((".", "?")) else f"{message}."
    key = str(place[-1])
    if error["type"] == "extra_forbidden":
        return f"unknown key '{where}' (expected {', '.join(fields)}){ending(key, fields)}"
    if error["type"] == "missing":
        return f"the key '{where}' is missing."
    if error["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        given = str(error["input"])
        return f"'{where}' has no '{given}' (expected {', '.join(known)}){ending(given, known)}"
    expected = error["msg"].removeprefix("Input should be ")
    if key in fields and fields[key].description:
        expected = fields[key].description
    elif expected == error["msg"]:
        return f"'{where}': {expected}."
    return f"'{where}' must be {expected}, but is {error['input']!r}."


def _is_spec(kind: Any) -> bool:
    # under Python 3.10 tuple[str, ...] is an instance of type
    return isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, Spec)
