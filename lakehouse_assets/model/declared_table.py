"""What every declaration of a table says, whether it is filled from a topic or computed: what it is called, and whose it is."""

from pydantic import Field

from lakehouse_assets.model import fields
from lakehouse_assets.model.declared import Declared


class DeclaredTable(Declared):
    """Base of the declarations of tables."""

    table: fields.TableName = Field(description="namespace.name of the Iceberg table; the asset key is namespace/name.")
    description: str = Field(
        default="", strict=True, description="What a row is, for those who find the table in the UI."
    )
    owners: tuple[fields.Owner, ...] = Field(
        default=(), description="Who answers for the table: e-mail addresses, or team:name."
    )

    @property
    def namespace(self) -> str:
        """The part of `table` before the dot."""
        return self.table.split(".")[0]

    @property
    def name(self) -> str:
        """The part of `table` after the dot."""
        return self.table.split(".")[1]
