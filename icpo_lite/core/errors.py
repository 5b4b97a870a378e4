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
    """The recipe, the arguments or what was named on the command line is wrong.

    evaluate("runs/tiny", setting=("full",))  # unknown option setting
    """

    exit_code = 2


class RecipeError(UsageError):
    """A key, a value or a combination of a recipe, with its file and line.

    Recipe(max_step=2)  # unknown key max_step; did you mean max_steps?
    """


class DataError(UsageError):
    """A row, a column or a file of a corpus, with the row's place.

    augment([{"question": "How many?"}], max_remove=1)  # unknown key max_remove
    """


class ModelError(IcpoError):
    """A model that cannot be loaded, or that does not fit what is asked of it.

    load_policy("some/name-that-no-hub-has")
    """


class DeviceError(IcpoError):
    """An accelerator that is not there, or cannot do what was asked.

    load_policy("builtin:tiny", device="cuda:7")
    """


class GraderError(IcpoError):
    """A gold answer or the grader itself is at fault; never told as a wrong reply.

    grade("The answer is 7.", "seven or so")
    """


class NumericsError(IcpoError):
    """NaN or infinity where a number was needed: updates that had to be skipped, logits.

    train(load_recipe("tiny", learning_rate=1e9))
    """


class OutOfMemory(IcpoError):
    """Not even the least there is to compute fits; says which key makes it smaller.

    train(load_recipe("qwen32b"))  # on a card of 8 GB
    """


class RunDirectoryError(IcpoError):
    """A run directory or a checkpoint that cannot be used: owned, damaged, of another run.

    train(load_recipe("tiny", output_dir="/proc/run"))
    """


class Interrupted(IcpoError):
    """A run was asked to stop and has saved its work; the same call goes on from there.

    train(load_recipe("tiny"))  # and Ctrl-C
    """

    exit_code = 130


class Halted(IcpoError):
    """A finding that `stop_on` names has ended a run, its work saved.

    train(load_recipe("tiny", stop_on=["always_asks"]))
    """
