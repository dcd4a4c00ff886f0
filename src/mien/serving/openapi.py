"""The service's OpenAPI: BentoML's own knows neither the service's statuses nor the page beside it."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mien.serving import schemas
from mien.serving.access import Access
from mien.serving.limits import Limits

RAW = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
"""Named for a body that is one photo; any other `image/…` is read as well."""

REFERENCE = "#/components/schemas/{model}"

STATUSES = {
    400: "The form is broken or cut off.",
    401: "The service needs a key, and this request has none or a wrong one.",
    413: "Too many bytes, pixels, files or fields.",
    415: "No form and no photo as the body, or no image of a format that is read.",
    422: "The wrong field, or a damaged photo.",
    429: "More requests at a time than are served: try again after `Retry-After` seconds.",
    503: "It would wait too long, or its bytes find no room: try again after `Retry-After` seconds.",
    504: "The request or its answer took too long.",
}

CALLS: dict[str, tuple[str, str, type[BaseModel] | None]] = {
    "/predict": ("image", "Find every face in a photo and name its emotion.", schemas.Answer),
    "/predict_batch": ("images", "The same for many photos; one bad photo never fails the rest.", schemas.BatchAnswer),
    "/classify": ("images", "Name the emotion of pictures of one whole face each.", schemas.CropsAnswer),
    "/annotate": ("image", "The photo back with boxes and bars, as JPEG, or as PNG if `Accept` asks for it.", None),
    "/explain": ("image", "Show what the answer for each face depends on.", schemas.Explanation),
}
"""Each call that takes a form: its field, what it does, and the model of its answer (None: a picture)."""


SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "One of the keys in MIEN_API_KEY."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same."},
}


def document(version: str, limits: Limits, access: Access) -> dict[str, Any]:
    """OpenAPI 3.1 of every call of the service."""
    models: list[type[BaseModel]] = [
        schemas.Error,
        schemas.ModelInfo,
        *(model for _, _, model in CALLS.values() if model),
    ]
    _, defined = models_json_schema([(model, "serialization") for model in models], ref_template=REFERENCE)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Mien",
            "version": version,
            "description": "Emotions of the faces in a photo. Photos are not stored. An expression is not a feeling.",
        },
        "servers": [{"url": "."}],
        "paths": {path: {"post": _call(path, limits)} for path in CALLS} | _infrastructure(access),
        "components": {"schemas": defined["$defs"]} | ({"securitySchemes": SECURITY} if access.keys else {}),
        "security": [{name: []} for name in SECURITY] if access.keys else [],
    }


def _call(path: str, limits: Limits) -> dict[str, Any]:
    field, summary, model = CALLS[path]
    file = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
    most = limits.crops if path == "/classify" else limits.batch_photos
    many = {"type": "array", "items": file, "minItems": 1, "maxItems": most}
    form = {"type": "object", "properties": {field: file if field == "image" else many}, "required": [field]}
    picture = {"schema": {"type": "string", "format": "binary"}}
    bodies = {"multipart/form-data": {"schema": form}} | (dict.fromkeys(RAW, picture) if field == "image" else {})
    answer = {"application/json": _schema(model)} if model else {"image/jpeg": picture, "image/png": picture}
    refusals = {str(status): {"description": why, "content": {"application/json": _schema(schemas.Error)}}
                for status, why in STATUSES.items()}  # fmt: skip
    return {
        "summary": summary,
        "operationId": path.strip("/"),
        "tags": ["Photos"],
        "requestBody": {"required": True, "content": bodies},
        "responses": {"200": {"description": "The answer.", "content": answer}} | refusals,
    }


def _infrastructure(access: Access) -> dict[str, Any]:
    result = {"200": {"description": "The answer.", "content": {"application/json": _schema(schemas.ModelInfo)}}}
    calls: dict[str, Any] = {
        "/model_info": {
            "get": {"summary": "The model's card and what serves it.", "tags": ["Service"], "responses": result}
        }
    }
    summaries = {
        "/app": ("The web page.", "text/html"),
        "/livez": ("Whether the service runs.", "text/plain"),
        "/readyz": ("Whether it can answer.", "text/plain"),
        "/metrics": ("Counts and times, for Prometheus.", "text/plain"),
    }
    for path, (summary, kind) in summaries.items():
        answer = {"200": {"description": summary, "content": {kind: {"schema": {"type": "string"}}}}}
        calls[path] = {"get": {"summary": summary, "tags": ["Service"], "responses": answer}}
    refusal = {"description": STATUSES[401], "content": {"application/json": _schema(schemas.Error)}}
    for path, call in calls.items():
        if access.answers(path):
            call["get"]["security"] = []
        else:
            call["get"]["responses"] = call["get"]["responses"] | {"401": refusal}
    return calls


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": REFERENCE.format(model=model.__name__)}}
