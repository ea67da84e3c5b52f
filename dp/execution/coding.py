"""Codes of private keys: one integer for each group while nobody may know its key, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dp.execution.bounding import exact_identity
from dp.planning.keys import Group

__all__ = ["HashedKeys", "KeyCodes", "PackedKeys", "key_codes"]

Int64s = NDArray[np.int64]

_CODE = "__code"
_CODE_BITS = 64
_BITS: dict[type[T.DataType], int] = {
    T.BooleanType: 1,
    T.ByteType: 8,
    T.ShortType: 16,
    T.IntegerType: 32,
    T.LongType: 64,
}


class KeyCodes(ABC):
    """How the groups of one release are coded."""

    @abstractmethod
    def column(self) -> Column:
        """The code of a row's group, a long; NULL where a part of the key is. Raises on no row."""

    @abstractmethod
    def keys(self, codes: Int64s) -> dict[int, Group]:
        """The keys of some codes, each of which a row has."""


def key_codes(rows: DataFrame, names: Sequence[str], salt: int) -> KeyCodes:
    """Codes for the keys of `rows`: the key itself where 64 bits hold it, otherwise a salted hash.

    Args:
        rows: with the key columns, which are integers, booleans or strings.
        names: the key columns; plain words of our own.
        salt: drawn for this release.
    """
    kinds = [type(rows.schema[name].dataType) for name in names]
    bits = tuple(_BITS.get(kind, _CODE_BITS + 1) for kind in kinds)
    return PackedKeys(tuple(names), bits) if sum(bits) <= _CODE_BITS else HashedKeys(rows.select(*names), salt)


@dataclass(frozen=True)
class PackedKeys(KeyCodes):
    """Keys of a few bits, side by side in one integer: exact, and read back without the rows.

    Attributes:
        names: the key columns.
        bits: of each; 1 is a boolean. At most 64 together.
    """

    names: tuple[str, ...]
    bits: tuple[int, ...]

    def column(self) -> Column:
        return reduce(Column.bitwiseOR, (self._placed(*part) for part in self._parts()))

    def keys(self, codes: Int64s) -> dict[int, Group]:
        columns = [self._read(codes, bits, shift).tolist() for _, bits, shift in self._parts()]
        return dict(zip(codes.tolist(), zip(*columns, strict=True), strict=True))

    def _parts(self) -> Iterator[tuple[str, int, int]]:
        """Name, bits and place of each column."""
        for index, (name, bits) in enumerate(zip(self.names, self.bits, strict=True)):
            yield name, bits, sum(self.bits[:index])

    @staticmethod
    def _placed(name: str, bits: int, shift: int) -> Column:
        value = F.col(name).cast("long")
        return F.shiftleft(value if bits == _CODE_BITS else value.bitwiseAND(F.lit(2**bits - 1)), shift)

    @staticmethod
    def _read(codes: Int64s, bits: int, shift: int) -> Int64s | NDArray[np.bool_]:
        above = _CODE_BITS - bits - shift
        value = (codes << above) >> (above + shift)  # the sign is that of the part's own highest bit
        return value != 0 if bits == 1 else value


@dataclass(frozen=True)
class HashedKeys(KeyCodes):
    """Keys by a 63-bit hash, SHA-256 of a salt and the key; they are looked up among the rows again.

    Two keys of one code would be one group, which bears the name of one of them: somebody's key, perhaps nobody else's.
    With a salt that is drawn for the release no two keys have one code but with probability 2^-63; non-cryptographic
    hashes have pairs that agree for every salt.

    Attributes:
        rows: the key columns of the owner's rows.
        salt: not secret.
    """

    rows: DataFrame = field(repr=False)
    salt: int = field(repr=False)

    def column(self) -> Column:
        identity = exact_identity(self.rows, self.rows.columns).cast("string").cast("binary")
        digest = F.sha2(F.concat(F.lit(f"{self.salt}:").cast("binary"), identity), 256)
        return F.when(self._known(), F.xxhash64(digest).bitwiseAND(F.lit(2**63 - 1)))

    def keys(self, codes: Int64s) -> dict[int, Group]:
        """As the base says; one pass over the key columns, which hashes each different key once.

        Cost: an exchange of the different keys.
        """
        names = self.rows.columns
        wanted = self.rows.sparkSession.createDataFrame(pa.table({_CODE: codes}))
        coded = self.rows.where(self._known()).distinct().withColumn(_CODE, self.column())
        table = coded.join(F.broadcast(wanted), _CODE, "left_semi").select(_CODE, *names).toArrow()
        rows = zip(*(table.column(name).to_pylist() for name in (_CODE, *names)), strict=True)
        return {code: tuple(key) for code, *key in rows}

    def _known(self) -> Column:
        """Whether a row has a key that can be shown; bytes that are no text would be paid for and then fail."""
        return reduce(and_, (self._is_known(name) for name in self.rows.columns))

    def _is_known(self, name: str) -> Column:
        key = F.col(name)
        is_text = isinstance(self.rows.schema[name].dataType, T.StringType)
        return key.isNotNull() & F.is_valid_utf8(key) if is_text else key.isNotNull()
