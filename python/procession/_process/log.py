"""The logger of the package. It costs nothing until a program asks for it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger, LogRecord

__all__ = [
    "DEBUG",
    "DEFAULT_LOGGING_FORMAT",
    "INFO",
    "LOGGER_NAME",
    "NOTSET",
    "SUBDEBUG",
    "SUBWARNING",
    "WARNING",
    "debug",
    "get_logger",
    "info",
    "log_to_stderr",
    "sub_debug",
    "sub_warning",
    "warn",
]

NOTSET = 0
SUBDEBUG = 5
DEBUG = 10
INFO = 20
SUBWARNING = 25
WARNING = 30

# the name with which programs find and configure the logger
LOGGER_NAME = "multiprocessing"
DEFAULT_LOGGING_FORMAT = "[%(levelname)s/%(processName)s] %(message)s"

logger: Logger | None = None
to_stderr = False


def sub_debug(msg: object, *args: object) -> None:
    """Logs below DEBUG, if logging is on."""
    if logger:
        logger.log(SUBDEBUG, msg, *args, stacklevel=2)


def debug(msg: object, *args: object) -> None:
    """Logs at DEBUG, if logging is on."""
    if logger:
        logger.log(DEBUG, msg, *args, stacklevel=2)


def info(msg: object, *args: object) -> None:
    """Logs at INFO, if logging is on."""
    if logger:
        logger.log(INFO, msg, *args, stacklevel=2)


def sub_warning(msg: object, *args: object) -> None:
    """Logs below WARNING, if logging is on."""
    if logger:
        logger.log(SUBWARNING, msg, *args, stacklevel=2)


def warn(msg: object, *args: object) -> None:
    """Logs at WARNING, if logging is on."""
    if logger:
        logger.log(WARNING, msg, *args, stacklevel=2)


def get_logger() -> Logger:
    """Returns the logger of the package and makes it if necessary. It passes no records on to the root logger."""
    global logger  # noqa: PLW0603 (of this process)
    if logger is None:
        import atexit
        import logging

        from ..util import _exit_function

        found = logging.getLogger(LOGGER_NAME)
        found.propagate = False
        found.addFilter(_name_process)
        # `atexit` calls the last function first, and logging closes its handlers there: ours must run before that
        atexit.unregister(_exit_function)
        atexit.register(_exit_function)
        logger = found
    return logger


def log_to_stderr(level: int | str | None = None) -> Logger:
    """Adds a handler that prints to standard error, and sets the level if one is given. Children do the same."""
    global to_stderr  # noqa: PLW0603 (of this process)
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(DEFAULT_LOGGING_FORMAT))
    found = get_logger()
    found.addHandler(handler)
    if level:
        found.setLevel(level)
    to_stderr = True
    return found


def _name_process(record: LogRecord) -> bool:
    # logging itself asks only `multiprocessing`, which may be another package
    from ..process import current_process

    record.processName = current_process().name
    return True
