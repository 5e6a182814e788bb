"""The host's dataset, one class further: records with regions or targets become ours.

The host's own dataset swallows every exception of an item and draws another at random, so wrong
annotation would silently become other samples. A record of ours never reaches that code: it is
parsed, decoded and tokenised here. One that is bad keeps its place, blank, and is named to the
Trainer (`data/quarantine.py`). Every other record is the host's, item and all.

Instances are moved to a subclass (`Ledger.swap_class`) because the host's class calls its parent by
its global name. Python moves them only to a class of one base, so the subclass is made for the
host's class at hand. They pickle by module and class name: a spawned worker first makes the host
importable again, shims included.
"""

from __future__ import annotations

import functools
import json
from typing import Any, Mapping, Optional

from sama_plugin.data.collate import Collator, Prepared
from sama_plugin.data.formats.internvl_meta import parse
from sama_plugin.data.library import Library
from sama_plugin.data.quarantine import TolerantCollator
from sama_plugin.data.report import BAD_RECORD, MALFORMED, BadRecord, RecordReport, Strict
from sama_plugin.errors import DataError
from sama_plugin.logs import warn_once

OURS = ("regions", "targets")


class SamaRecords:
    """Methods of the subclasses; `start_sama` is called once an instance."""

    sama_host: type

    def start_sama(self, collator: Collator, file: str) -> None:
        """`collator` prepares our records; it must pickle without a model. `file` is the
        annotation, for messages."""
        self.sama_collator, self.sama_file = TolerantCollator(collator), file
        self.sama_library = Library(self.root, probe=False)

    def __getitem__(self, number: int) -> Any:
        line = number % len(self.raw_data)
        try:
            record = read_record(self.raw_data[line])
            ours = is_ours(record)
        except DataError as error:  # nobody can tell whose it is
            return self._blank(error, f"{self.ds_name}/line {line + 1}")
        if not ours:
            return self.sama_host.__getitem__(self, number)
        return self.sama_prepare({"id": f"line {line + 1}", **record})

    def sama_prepare(self, record: Mapping[str, Any]) -> Prepared:
        """A record of ours, ready for the collator; the blank for it if it is bad."""
        name = f"{self.ds_name}/{record.get('id')}"
        report = RecordReport(Strict(), self.sama_file, name)
        try:
            sample = parse(record, self.sama_library, report, self.ds_name, f"{self.ds_name}/")
        except MALFORMED as error:
            return self._blank(error, name)
        try:
            return self.sama_collator.collator.prepare(sample)
        except BAD_RECORD as error:
            return self._blank(error, name)

    def _blank(self, error: Exception, record: str) -> Prepared:
        bad = BadRecord.of(error, self.ds_name, self.sama_file, record)
        return self.sama_collator.blank(bad)

    def multi_modal_get_item(self, data_item: Mapping[str, Any]) -> Any:
        return self._theirs("multi_modal_get_item", data_item)

    def multi_modal_multi_image_get_item(self, data_item: Mapping[str, Any]) -> Any:
        return self._theirs("multi_modal_multi_image_get_item", data_item)

    def video_get_item(self, data_item: Mapping[str, Any]) -> Any:
        return self._theirs("video_get_item", data_item)

    def pure_text_get_item(self, data_item: Mapping[str, Any]) -> Any:
        return self._theirs("pure_text_get_item", data_item)

    def _theirs(self, method: str, item: Mapping[str, Any]) -> Any:
        """The host's own item; a record of ours that it drew instead of a bad one stays ours."""
        if is_ours(item):
            return self.sama_prepare(item)
        try:
            return getattr(self.sama_host, method)(self, item)
        except Exception as error:
            warn_once(
                f"substituted-{self.ds_name}",
                f"dataset {self.ds_name}: the host cannot read record {item.get('id')!r} ({error}) "
                "and takes another at random; this is said once",
            )
            raise

    def __reduce_ex__(self, protocol: int) -> Any:
        host = self.sama_host
        return _revived, (host.__module__, host.__qualname__), vars(self)


@functools.cache
def sama_records(host: type) -> type:
    """The subclass of the host's dataset class `host` that knows our records."""
    own = ("__dict__", "__weakref__", "__doc__", "__annotations__")
    methods = {name: value for name, value in vars(SamaRecords).items() if name not in own}
    return type(f"Sama{host.__name__}", (host,), {**methods, "sama_host": host})


def is_ours(record: Mapping[str, Any]) -> bool:
    """Whether a record points at something or grounds something."""
    found = [record.get(key) or () for key in OURS]
    return any(not isinstance(turns, (list, tuple)) or any(turns) for turns in found)


def read_record(line: Any) -> dict[str, Any]:
    """A line of the host's annotation file.

    Raises:
        DataError: it is no JSON object.
    """
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"the line is not valid JSON: {error}", reason="bad_json") from error
    if not isinstance(record, dict):
        found = type(record).__name__
        raise DataError("the line is no JSON object", found=found, reason="bad_json")
    return record


def _revived(module: str, name: str) -> Any:
    """An empty instance, in a process that may not have imported the host yet."""
    from sama_plugin.bridges.internvl_chat.install import import_host

    owner: Optional[Any] = import_host(module)
    for step in name.split("."):
        owner = getattr(owner, step)
    kind = sama_records(owner)
    return kind.__new__(kind)


def host_class(instance: Any) -> type:
    """The host's class of a dataset, swapped or not."""
    return getattr(type(instance), "sama_host", type(instance))
