"""The methods of a context that have several signatures: a stub only, there is no such module."""

import ctypes
from _ctypes import _CData
from collections.abc import Iterable
from typing import Any, Literal, Protocol, TypeVar, overload

from .context import BaseContext, DefaultContext, ForkContext, ForkServerContext, SpawnContext
from .sharedctypes import Synchronized, SynchronizedArray, SynchronizedString

_T = TypeVar("_T")
_C = TypeVar("_C", bound=_CData)

class LockLike(Protocol):
    @property
    def acquire(self) -> Any: ...
    @property
    def release(self) -> Any: ...

class Methods:
    @overload
    def RawValue(self, typecode_or_type: type[_C], *args: Any, name: str | None = None) -> _C: ...
    @overload
    def RawValue(self, typecode_or_type: str, *args: Any, name: str | None = None) -> Any: ...

    #
    @overload
    def RawArray(
        self, typecode_or_type: type[_C], size_or_initializer: int | Iterable[Any], *, name: str | None = None
    ) -> ctypes.Array[_C]: ...
    @overload
    def RawArray(
        self, typecode_or_type: str, size_or_initializer: int | Iterable[Any], *, name: str | None = None
    ) -> Any: ...

    #
    @overload
    def Value(self, typecode_or_type: type[_C], *args: Any, lock: Literal[False], name: str | None = None) -> _C: ...
    @overload
    def Value(self, typecode_or_type: str, *args: Any, lock: Literal[False], name: str | None = None) -> Any: ...
    @overload
    def Value(  # pyright: ignore[reportOverlappingOverload]  # as in typeshed
        self,
        typecode_or_type: type[ctypes._SimpleCData[_T]],
        *args: Any,
        lock: LockLike | Literal[True] | None = True,
        name: str | None = None,
    ) -> Synchronized[_T]: ...
    @overload
    def Value(
        self,
        typecode_or_type: type[_C],
        *args: Any,
        lock: LockLike | Literal[True] | None = True,
        name: str | None = None,
    ) -> Synchronized[_C]: ...
    @overload
    def Value(
        self, typecode_or_type: str, *args: Any, lock: LockLike | Literal[True] | None = True, name: str | None = None
    ) -> Synchronized[Any]: ...
    @overload
    def Value(
        self,
        typecode_or_type: str | type[_CData],
        *args: Any,
        lock: bool | LockLike | None = True,
        name: str | None = None,
    ) -> Any: ...

    #
    @overload
    def Array(
        self,
        typecode_or_type: type[_C],
        size_or_initializer: int | Iterable[Any],
        *,
        lock: Literal[False],
        name: str | None = None,
    ) -> ctypes.Array[_C]: ...
    @overload
    def Array(
        self,
        typecode_or_type: str,
        size_or_initializer: int | Iterable[Any],
        *,
        lock: Literal[False],
        name: str | None = None,
    ) -> Any: ...
    @overload
    def Array(
        self,
        typecode_or_type: type[ctypes.c_char],
        size_or_initializer: int | Iterable[Any],
        *,
        lock: LockLike | Literal[True] | None = True,
        name: str | None = None,
    ) -> SynchronizedString: ...
    @overload
    def Array(
        self,
        typecode_or_type: type[ctypes._SimpleCData[_T]],
        size_or_initializer: int | Iterable[Any],
        *,
        lock: LockLike | Literal[True] | None = True,
        name: str | None = None,
    ) -> SynchronizedArray[_T]: ...
    @overload
    def Array(
        self,
        typecode_or_type: str,
        size_or_initializer: int | Iterable[Any],
        *,
        lock: LockLike | Literal[True] | None = True,
        name: str | None = None,
    ) -> SynchronizedArray[Any]: ...
    @overload
    def Array(
        self,
        typecode_or_type: str | type[_CData],
        size_or_initializer: int | Iterable[Any],
        *,
        lock: bool | LockLike | None = True,
        name: str | None = None,
    ) -> Any: ...

    #
    @overload
    def get_context(self, method: None = None) -> DefaultContext: ...
    @overload
    def get_context(self, method: Literal["spawn"]) -> SpawnContext: ...
    @overload
    def get_context(self, method: Literal["fork"]) -> ForkContext: ...
    @overload
    def get_context(self, method: Literal["forkserver"]) -> ForkServerContext: ...
    @overload
    def get_context(self, method: str | None) -> BaseContext: ...

    #
    @overload
    def get_start_method(self, allow_none: Literal[False] = False) -> str: ...
    @overload
    def get_start_method(self, allow_none: bool) -> str | None: ...
