"""The commands, in the order in which ``genview --help`` lists them; a further one is a module and a line here."""

from types import ModuleType

from genview.commands import accept, check, compare, config, export, fetch, remake, run

COMMANDS: dict[str, ModuleType] = {
    "run": run,
    "check": check,
    "config": config,
    "fetch": fetch,
    "compare": compare,
    "accept": accept,
    "remake": remake,
    "export": export,
}
