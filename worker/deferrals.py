"""Why something waits that is not at fault, in words for its owner: no path, no address; the log has those."""

from core.model_folders import BaseMissing
from core.storage import StorageError, StorageFull, StorageUnavailable


def explain_waiting(error: Exception) -> str:
    return f"{_cause(error)} It is tried again by itself; the operator finds the details in the worker's log."


def _cause(error: Exception) -> str:
    match error:
        case BaseMissing():
            return str(error)
        case StorageFull():
            return "The service's storage is full."
        case StorageUnavailable():
            return "The service's storage does not answer."
        case StorageError():
            return "The service's storage refuses."
        case _:
            return "The worker cannot use its temporary folder: it may be full."
