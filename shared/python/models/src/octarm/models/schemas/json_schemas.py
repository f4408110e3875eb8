"""JSON Schema 2020-12 of every public model, each file complete in itself."""

from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from octarm.models.schemas.catalogue import UNIONS, public_models

FOLDER: Final = "schemas"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out the titles that only repeat a field's name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schemas() -> dict[str, dict[str, Any]]:
    """Give the schema of every public model and union by its name."""
    kinds: dict[str, Any] = {model.__name__: model for model in public_models()}
    return {name: _schema(name, kind) for name, kind in (kinds | UNIONS).items()}


def file_name(name: str) -> str:
    """Name the file of a model or union."""
    return f"{name}.schema.json"


def _schema(name: str, kind: Any) -> dict[str, Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    schema = adapter.json_schema(schema_generator=_WithoutTitles)
    definitions = schema.pop("$defs", None)
    head = {"$schema": DIALECT, "$id": f"urn:octarm:schema:v1:{name}", "title": name}
    return head | schema | ({"$defs": definitions} if definitions else {})
