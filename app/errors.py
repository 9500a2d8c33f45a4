"""How resources show why they failed or were rejected. (Errors of requests are problem documents: problems.py.)"""

from pydantic import BaseModel


class ErrorOut(BaseModel):
    """Why it failed or was rejected, and what to do."""

    type: str
    title: str
    detail: str
