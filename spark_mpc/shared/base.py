"""What every secret array has in common: a shape, and no value."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["Secret"]


class Secret:
    """What no secret array does."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the secret; public."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape})"

    def _no_value(self, *_: object) -> NoReturn:
        raise TypeError(f"{self!r} is secret and has no value here: choose with select(), show a result with open()")

    __bool__ = __iter__ = __int__ = __float__ = __index__ = __contains__ = __reduce__ = _no_value
    __hash__ = None  # type: ignore[assignment]
    __array_ufunc__ = None  # numpy leaves operators with secrets to them
    __array__ = _no_value
