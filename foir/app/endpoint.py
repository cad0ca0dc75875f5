"""Endpoints whose arguments are checked, from methods that take dataclasses."""

import inspect
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any

from pydantic import ValidationError, create_model

from foir.errors import BadPrompt


def endpoint(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method an endpoint that validates its arguments.

    Each dataclass argument is replaced by one argument a field, in signature and docstring.
    """
    signature, doc = inspect.signature(method), inspect.getdoc(method) or ""
    types = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    bundles: dict[str, Any] = {name: annotation for name, annotation in types.items() if is_dataclass(annotation)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parts = inspect.signature(bundles[name]).parameters.values() if name in bundles else [parameter]
        parameters += [part.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD) for part in parts]
    for name, bundle in bundles.items():
        fields_doc = (inspect.getdoc(bundle) or "").partition("Attributes:\n")[2]
        doc = re.sub(rf"^    {name}: .*$", fields_doc, doc, flags=re.MULTILINE)
    signature = signature.replace(parameters=parameters)
    types = {parameter.name: parameter.annotation for parameter in parameters[1:]}
    required: dict[str, Any] = {name: (annotation, ...) for name, annotation in types.items()}
    model = create_model("Arguments", **required)

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        try:
            values = dict(model(**{name: bound.arguments[name] for name in types}))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            location = ".".join(str(part) for part in first["loc"])
            raise BadPrompt(f"{location}: {first['msg'][:1].lower()}{first['msg'][1:]}.") from error
        for name, bundle in bundles.items():
            values[name] = bundle(**{each.name: values.pop(each.name) for each in fields(bundle)})
        return method(self, **values)

    flat: Any = call
    flat.__doc__, flat.__signature__ = doc, signature
    flat.__annotations__ = {**types, "return": signature.return_annotation}
    return flat
