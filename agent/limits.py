"""How many files the agent may have open."""

import resource

_PER_SLOT = 4
_OWN = 256
_PER_SLOT_LEAST = 3  # of each task: the ends of two pipes, and the pidfd
_OWN_LEAST = 64  # connections, a few threads, what starting a process takes for a moment


class LimitError(Exception):
    """The system allows too little: the text says what to do."""


def wanted_files(slots: int, soft: int, hard: int) -> int:
    """The soft limit to be set for so many slots; LimitError where even the hard one is too low."""
    infinite = resource.RLIM_INFINITY
    least = _OWN_LEAST + _PER_SLOT_LEAST * slots
    if hard != infinite and hard < least:
        fitting = (hard - _OWN_LEAST) // _PER_SLOT_LEAST
        fewer = f"start fewer than {fitting + 1} slots, or " if fitting > 0 else ""
        raise LimitError(
            f"{slots} slots need {least} open files and this system allows {hard}: "
            f"{fewer}raise the hard limit (`ulimit -Hn`)"
        )
    wanted = _OWN + _PER_SLOT * slots
    if hard != infinite:
        wanted = min(wanted, hard)
    return soft if soft == infinite else max(soft, wanted)


def raise_files(slots: int) -> None:
    """Raise the soft limit, which tasks inherit; LimitError where the hard one is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = wanted_files(slots, soft, hard)
    if wanted != soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:  # macOS has a lower limit beside the hard one
            raise LimitError(
                f"{slots} slots need {wanted} open files and this system refuses them ({error}): "
                "start fewer slots"
            ) from error
