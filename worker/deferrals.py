"""The reason of a deferral, for the owner: without paths and addresses, which are in the log."""

from core.model_folders import BaseMissing
from core.storage import StorageError, StorageFull, StorageUnavailable


def explain_waiting(error: Exception) -> str:
    return f"{_cause(error)} Atelier will retry by itself; the worker's log has the details for the operator."


def _cause(error: Exception) -> str:
    match error:
        case BaseMissing():
            return str(error)
        case StorageFull():
            return "The service's storage is full."
        case StorageUnavailable():
            return "The service's storage does not respond."
        case StorageError():
            return "The service's storage refused the request."
        case _:
            return "The worker cannot use its temporary folder: it may be full."
