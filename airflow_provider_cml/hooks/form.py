"""The connection form as Airflow 2.11 to 3.1 want it: wtforms fields, made from the one declaration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def form_widgets(form: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A field for each entry of `form`.

    wtforms and Flask-AppBuilder come with Airflow 2.11, and with 3.x only if the FAB provider is installed; 3.1 puts
    stand-ins in their place. Of the field classes only these four are known to Airflow's front end.
    """
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget  # noqa: PLC0415 - see above
    from flask_babel import lazy_gettext  # noqa: PLC0415
    from wtforms import BooleanField, IntegerField, PasswordField, StringField  # noqa: PLC0415
    from wtforms.validators import any_of, optional  # noqa: PLC0415

    fields: dict[str, Any] = {}
    for name, field in form.items():
        schema = field["schema"]
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        given: dict[str, Any] = {
            "label": lazy_gettext(field["label"]),
            "default": schema.get("default"),
            "description": field.get("description", ""),
        }
        if "boolean" in types:
            fields[name] = BooleanField(**given)
            continue
        given["validators"] = [any_of(schema["enum"])] if "enum" in schema else [optional()]
        if schema.get("format") == "password":
            fields[name] = PasswordField(**given, widget=BS3PasswordFieldWidget())
        elif "integer" in types:
            fields[name] = IntegerField(**given, widget=BS3TextFieldWidget())
        else:
            fields[name] = StringField(**given, widget=BS3TextFieldWidget())
    return fields
