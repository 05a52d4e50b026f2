"""The bodies of requests and answers, as OpenAPI describes them. Requests are as files are: data/sources/schema.py."""

from typing import Any

from pydantic import BaseModel, Field, TypeAdapter

from cmath_jax.data.sources.schema import Transcript

_ELSEWHERE = "it names a recording, but paths are not read here; send recordings to /api/predict-with-audio"
# Fields of an utterance that it may not have in a request, and why.
WRITTEN = {"audio": _ELSEWHERE, "video": _ELSEWHERE}
SPOKEN = {"video": "video is not read here"}
_CONVERSATIONS = {"Conversation": ("Utterance", WRITTEN), "SpokenConversation": ("SpokenUtterance", SPOKEN)}


class UtterancePrediction(BaseModel):
    label: str = Field(description="The most probable emotion.")
    probabilities: dict[str, float] = Field(description="Of every emotion.")
    uncertainty: float = Field(ge=0, le=1, description="How often the model, drawing anew, gives another label.")
    entropy: float = Field(ge=0, le=1, description="Of the probabilities; 1 where all are equal.")
    gates: dict[str, dict[str, float]] = Field(
        description="Centre -> modality (t text, a audio, v visual) -> its weight; {} for a model of one modality."
    )
    missing: str = Field(description="Letters of the modalities that the utterance lacks.")
    warnings: list[str] = Field(description="What one should know of how the utterance was read, a sentence each.")


class Predicted(BaseModel):
    id: str
    predictions: list[UtterancePrediction] = Field(description="One for each utterance.")


class Answer(BaseModel):
    conversations: list[Predicted] = Field(description="In the order of the request.")


class Error(BaseModel):
    error: str = Field(description="What was wrong, and where.")
    reason: str | None = Field(None, description="What was wrong, without the place.")
    conversation: int | None = Field(None, description="Its number, from 0, in the request.")
    utterance: int | None = Field(None, description="Its number, from 0, in the conversation.")
    file: str | None = Field(None, description="The name of the upload that it is about.")


class Health(BaseModel):
    status: str


class Model(BaseModel):
    classes: list[str]
    modalities: str = Field(description="Letters of the modalities of the model: t text, a audio, v visual.")
    raw: str = Field(description="Letters of those that the server makes from what is sent.")
    limits: dict[str, float]
    card: dict[str, Any] = Field(description="Facts about the model.")


def request_schemas() -> dict[str, Any]:
    """Returns name -> JSON schema of the bodies of requests and all that they are made of."""
    transcript = TypeAdapter(Transcript).json_schema()
    [utterance] = transcript.pop("$defs").values()
    many = {"type": "array", "items": reference("Conversation"), "minItems": 1}
    body = {"type": "object", "properties": {"conversations": many}, "required": ["conversations"]}
    schemas: dict[str, Any] = {"Conversations": body | {"title": "Conversations", "additionalProperties": False}}
    for name, (one, refused) in _CONVERSATIONS.items():
        given = {field: schema for field, schema in utterance["properties"].items() if field not in refused}
        schemas[one] = utterance | {"title": one, "properties": given}
        fields = transcript["properties"]
        fields = fields | {"utterances": fields["utterances"] | {"items": reference(one)}}
        # The id is filled in.
        schemas[name] = transcript | {"title": name, "properties": fields, "required": ["utterances"]}
    return schemas


def reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
