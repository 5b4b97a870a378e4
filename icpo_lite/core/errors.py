"""Every error a user can meet, as a tree.

    IcpoError                  exit code 1: failed while running
    ├── UsageError             exit code 2: the recipe or the arguments are wrong
    │   ├── RecipeError        a key, a value or a combination in a recipe
    │   └── DataError          a row, a column or a file of a corpus
    ├── ModelError             a model that cannot be loaded or does not fit its use
    ├── DeviceError            an accelerator that is not there or cannot do what was asked
    ├── GraderError            a grader crashed; never turned into a reward of 0
    ├── NumericsError          NaN or infinity where a number was needed
    ├── OutOfMemory            not even the least there is to compute fits
    ├── RunDirectoryError      a run directory or checkpoint that cannot be used
    ├── Interrupted            exit code 130: a run was asked to stop and has saved its work
    └── Halted                 a finding that `stop_on` names has ended a run, its work saved

Each message is one line that says what was expected, what was found and what to change.
Only `icpo_lite.cli` turns them into text and an exit code.
"""

from icpo_lite.core.visible_text import visible_line

#: Of a longer message the beginning (what was expected) and the end (what to change) are told.
_LONGEST, _BEGINNING, _END = 2000, 1200, 600


class IcpoError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the program ends with.

    What a message quotes may come from a row, a server or a library: line ends and control
    characters are escaped, and no quotation makes it endless.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        line = visible_line(message)
        if len(line) > _LONGEST:
            line = f"{line[:_BEGINNING]} … {line[-_END:]}"
        super().__init__(line)


class UsageError(IcpoError):
    exit_code = 2


class RecipeError(UsageError):
    pass


class DataError(UsageError):
    pass


class ModelError(IcpoError):
    pass


class DeviceError(IcpoError):
    pass


class GraderError(IcpoError):
    pass


class NumericsError(IcpoError):
    pass


class OutOfMemory(IcpoError):
    pass


class RunDirectoryError(IcpoError):
    pass


class Interrupted(IcpoError):
    exit_code = 130


class Halted(IcpoError):
    pass
