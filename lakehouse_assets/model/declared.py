"""What every part of a declaration has in common: it is frozen, and unknown keys are mistakes."""

from pydantic import BaseModel, ConfigDict


class Declared(BaseModel):
    """Base of the models of a declaration."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)
