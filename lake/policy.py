"""An owner's policy: what this owner lets be opened without noise, of which program, and to whom.

The owner's own TOML file; nothing in it is secret.

    [disclosure.exposure-2026]
    program = "5f3ac0..."               # the program's fingerprint, 64 hex digits, as its explain() prints it
    recipients = ["insurer_a"]          # nobody else may receive it
    data_version = "5e8c...@7"          # optional: of this owner's table; without it every version may be opened
    until = 2026-12-31                  # optional: refused after that day (UTC)
    reason = "contract 12"              # optional, for people
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import tomlkit

from dp.accounting.ledger import disclosure_name
from dp.errors import InvalidArgument
from lake.errors import DisclosureRefused

__all__ = ["Disclosure", "Policy"]

_STANZA = {"program", "recipients", "data_version", "until", "reason"}
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Disclosure:
    """One stanza: a program whose result may be opened exactly.

    Args:
        name: 1 to 64 small letters, digits, `-` and `_`.
        program: the program's fingerprint, 64 hex digits in small letters.
        recipients: at least one; nobody else may receive the result.
        until: the last day on which it is allowed, in UTC; None for no end.
        reason: in the owner's words, for the record.
        data_version: the only version of this owner's table that it is good for, as in `lake.Table.data_version`; ""
            for every table and version, each of which is then another opening.

    Raises:
        InvalidArgument: any of them otherwise.
    """

    name: str
    program: str
    recipients: tuple[str, ...]
    until: date | None = None
    reason: str = ""
    data_version: str = ""

    def __post_init__(self) -> None:
        where = f"disclosure.{disclosure_name(self.name, 'disclosure')}"
        if not isinstance(self.program, str) or not _FINGERPRINT.fullmatch(self.program):
            remedy = "give the program's fingerprint as its explain() prints it: 64 hex digits in small letters"
            raise InvalidArgument(f"{where}.program", self.program, remedy)
        object.__setattr__(self, "recipients", _recipients(self.recipients, f"{where}.recipients"))
        if not isinstance(self.data_version, str):
            remedy = "give it as explain() prints it, in quotes, or leave it out"
            raise InvalidArgument(f"{where}.data_version", self.data_version, remedy)
        if self.until is not None and (not isinstance(self.until, date) or isinstance(self.until, datetime)):
            remedy = "give a day without quotes and without a time, such as 2026-12-31, or leave it out"
            raise InvalidArgument(f"{where}.until", self.until, remedy)
        if not isinstance(self.reason, str):
            raise InvalidArgument(f"{where}.reason", self.reason, 'give a text, such as "contract 12", or leave it out')

    def stanza(self) -> str:
        """The stanza of a policy file that lists it."""
        fields: dict[str, object] = {"program": self.program, "recipients": list(self.recipients)}
        if self.data_version:
            fields["data_version"] = self.data_version
        if self.until is not None:
            fields["until"] = self.until
        if self.reason:
            fields["reason"] = self.reason
        return tomlkit.dumps({"disclosure": {self.name: fields}})

    def refusals(self, asked: Disclosure, today: date) -> list[str]:
        """Why it does not allow what is asked under its name today; empty where it allows it."""
        found = []
        if asked.program != self.program:
            found.append(f"it is for program {self.program}, and this is program {asked.program}")
        unlisted = sorted(set(asked.recipients) - set(self.recipients))
        if unlisted:
            found.append(f"it is for {', '.join(self.recipients)}, and not for {', '.join(unlisted)}")
        if self.data_version and asked.data_version != self.data_version:
            asked_version = asked.data_version or "unknown"
            found.append(f"it is for version {self.data_version} of this owner's table, and this is {asked_version}")
        if self.until is not None and today > self.until:
            found.append(f"it ended on {self.until}, and today is {today}")
        return found

    def widened(self, asked: Disclosure, today: date) -> Disclosure:
        """The same with no more than what is missing to allow what is asked today."""
        added = tuple(name for name in asked.recipients if name not in self.recipients)
        until = None if self.until is None else max(self.until, today)
        version = asked.data_version if self.data_version else ""
        return replace(
            self, program=asked.program, recipients=self.recipients + added, data_version=version, until=until
        )


@dataclass(frozen=True)
class Policy:
    """Everything that an owner lets be opened without noise; what is not listed is refused.

    Args:
        disclosures: no two of the same name; none where nothing is allowed.

    Raises:
        InvalidArgument: a name that stands there twice.
    """

    disclosures: tuple[Disclosure, ...] = ()

    def __post_init__(self) -> None:
        names = [one.name for one in self.disclosures]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidArgument("disclosures", twice, "list every disclosure once")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Policy:
        """Read the policy file at `path`.

        Raises:
            InvalidArgument: a file that cannot be read, or anything in it that is not as it should be.
        """
        return cls.parse(_read(Path(path)))

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Read the content of a policy file; unknown keys are refused.

        Raises:
            InvalidArgument: anything that is not as it should be.
        """
        document = _parse_toml(text)
        _only(document, {"disclosure"}, "the policy file")
        stanzas = _table(document, "disclosure", "disclosure") if document else {}
        return cls(tuple(_read_stanza(name, stanzas) for name in stanzas))

    def check(
        self,
        name: str,
        *,
        program: str,
        recipients: Sequence[str],
        data_version: str = "",
        today: date | None = None,
    ) -> None:
        """Return only if this owner lets the program be opened exactly to these recipients.

        Args:
            name: the disclosure.
            program: the fingerprint of the program that is about to run.
            recipients: everybody who would receive its result; at least one.
            data_version: of this owner's table.
            today: the day in UTC; by the system's clock unless given.

        Raises:
            DisclosureRefused: not listed, of another program, of another version of the table, to a recipient who is
                not listed, or after its last day.
            InvalidArgument: a name, fingerprint or list of recipients that no policy could list.
        """
        asked = Disclosure(name, program, _recipients(recipients, "recipients"), data_version=data_version)
        day = datetime.now(UTC).date() if today is None else today
        listed = next((one for one in self.disclosures if one.name == name), None)
        if listed is None:
            raise DisclosureRefused(name, self._not_listed(), self._to_add(asked))
        refusals = listed.refusals(asked, day)
        if refusals:
            raise DisclosureRefused(name, "; ".join(refusals), _to_change(listed.widened(asked, day)))

    def _not_listed(self) -> str:
        if not self.disclosures:
            return "this owner's policy lists none"
        return f"this owner's policy does not list it, only {', '.join(one.name for one in self.disclosures)}"

    def _to_add(self, asked: Disclosure) -> str:
        where = "let the policy file say" if self.disclosures else "give policy= with a file that says"
        return f"if this owner agrees to an opening without noise, {where}:\n\n{asked.stanza()}"


def _to_change(wanted: Disclosure) -> str:
    return f"if this owner agrees, let the stanza in the policy file become:\n\n{wanted.stanza()}"


def _recipients(value: object, parameter: str) -> tuple[str, ...]:
    """A tuple of names; a single text is no list of names, although it is a sequence."""
    names = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InvalidArgument(parameter, value, 'give a list of at least one party, such as ["insurer_a"]')
    return names


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        remedy = f"cannot be read ({error.strerror}): give the path of this owner's policy file"
        raise InvalidArgument("policy", str(path), remedy) from None
    except UnicodeDecodeError:
        raise InvalidArgument("policy", str(path), "a policy file is UTF-8 text") from None


def _parse_toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        remedy = "correct the TOML; a disclosure stands in it once"
        raise InvalidArgument("policy file", str(error), remedy) from None


def _table(document: Mapping[str, Any], key: str, parameter: str) -> dict[str, Any]:
    value = document[key]
    if not isinstance(value, dict):
        raise InvalidArgument(parameter, value, "it is a table: write [disclosure.exposure-2026] above its keys")
    return value


def _only(table: Mapping[str, object], known: set[str], where: str) -> None:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise InvalidArgument(where, unknown, f"known are {', '.join(sorted(known))}")


def _read_stanza(name: str, stanzas: Mapping[str, object]) -> Disclosure:
    stanza = _table(stanzas, disclosure_name(name, "disclosure"), f"disclosure.{name}")
    _only(stanza, _STANZA, f"[disclosure.{name}]")
    return Disclosure(name, **{"program": None, "recipients": None, **stanza})
