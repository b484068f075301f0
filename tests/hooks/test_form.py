"""The form Airflow 2.11 to 3.1 ask the hook for is the one 3.2 and newer read in the metadata."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest

from airflow_provider_cml.connection import FIELD_BEHAVIOUR, FORM
from airflow_provider_cml.hooks.cml import CmlHook

if TYPE_CHECKING:
    from collections.abc import Iterator

WTFORMS = ("wtforms", "wtforms.validators", "flask_appbuilder", "flask_appbuilder.fieldwidgets", "flask_babel")


class Field:
    """What Airflow 3.1 puts in the place of a field of wtforms: it keeps what it was given."""

    def __init__(self, label: str, **given: Any) -> None:
        self.label = label
        self.given = given


class StandIn:
    """A module of such fields."""

    BooleanField = IntegerField = PasswordField = StringField = Field


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Airflow 3.1 does it, so that no web framework has to be installed."""
    for name in WTFORMS:
        monkeypatch.setitem(sys.modules, name, MagicMock())
    fields = MagicMock(
        **{name: type(name, (Field,), {}) for name in ("BooleanField", "IntegerField", "PasswordField", "StringField")}
    )
    monkeypatch.setitem(sys.modules, "wtforms", fields)
    monkeypatch.setitem(sys.modules, "wtforms.validators", MagicMock(any_of=lambda values: ("any of", values)))
    monkeypatch.setitem(sys.modules, "flask_babel", MagicMock(lazy_gettext=lambda text: text))


def kind_of(schema: dict[str, Any]) -> str:
    """The field class for a schema."""
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if schema.get("format") == "password":
        return "PasswordField"
    return {"boolean": "BooleanField", "integer": "IntegerField"}.get(types[0], "StringField")


@pytest.mark.usefixtures("stand_ins")
def test_class_method_gives_the_same_form() -> None:
    """Names, order, labels, hints, defaults and choices are those of the metadata."""
    widgets = CmlHook.get_connection_form_widgets()

    assert list(widgets) == list(FORM)
    for name, field in FORM.items():
        widget = widgets[name]
        assert type(widget).__name__ == kind_of(field["schema"])
        assert widget.label == field["label"]
        assert widget.given["default"] == field["schema"].get("default")
        assert widget.given["description"] == field.get("description", "")
        choices = [wanted for wanted in widget.given.get("validators", []) if isinstance(wanted, tuple)]
        assert choices == ([("any of", field["schema"]["enum"])] if "enum" in field["schema"] else [])


@pytest.fixture
def application() -> Iterator[Any]:
    """A Flask application, whose context wtforms' translated labels need."""
    flask = import_module("flask").Flask("test")
    import_module("flask_babel").Babel(flask)
    with flask.test_request_context():
        yield flask


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what Airflow 2.11 brings uses what its Flask deprecates
@pytest.mark.skipif(find_spec("flask_appbuilder") is None, reason="wtforms comes with Airflow 2.11 only")
def test_real_form_shows_the_same(application: Any) -> None:
    """Wtforms itself makes of it a form with these labels and defaults."""
    form = type("ConnectionForm", (import_module("wtforms").Form,), CmlHook.get_connection_form_widgets())()
    found = {field.name: (str(field.label.text), field.default, type(field).__name__) for field in form}

    assert found == {
        name: (field["label"], field["schema"].get("default"), kind_of(field["schema"])) for name, field in FORM.items()
    }


def test_behaviour_is_the_same() -> None:
    """Labels and hints of the standard fields differ in the spelling of their keys only."""
    assert CmlHook.get_ui_field_behaviour() == {
        "hidden_fields": FIELD_BEHAVIOUR["hidden-fields"],
        "relabeling": FIELD_BEHAVIOUR["relabeling"],
        "placeholders": FIELD_BEHAVIOUR["placeholders"],
    }
