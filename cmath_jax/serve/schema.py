"""The bodies of requests and answers, as OpenAPI describes them. data/transcripts.py holds the rules that count."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Utterance(_Body):
    speaker: str | int = Field(description="A name; or an index from 0, if all speakers of the conversation are.")
    text: str | None = Field(None, description="The words.")
    label: str | None = Field(None, description="Is accepted, and not used.")
    id: str | None = None
    start: float | None = Field(None, ge=0, description="Seconds in the recording.")
    end: float | None = Field(None, gt=0, description="Seconds in the recording; after the start.")


class SpokenUtterance(Utterance):
    audio: str | None = Field(None, description="The file name of one of the uploads.")


class Conversation(_Body):
    id: str | None = Field(None, min_length=1, description="Comes back in the answer; default its number from 1.")
    split: str | None = Field(None, description="Is accepted, and not used.", pattern="^(train|validation|test)$")
    utterances: list[Utterance] = Field(min_length=1, description="In time order.")


class Conversations(_Body):
    conversations: list[Conversation] = Field(min_length=1)


class SpokenConversation(Conversation):
    utterances: list[SpokenUtterance] = Field(min_length=1, description="In time order.")  # type: ignore[assignment]


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
    _, schemas = models_json_schema(
        [(Conversations, "validation"), (SpokenConversation, "validation")], ref_template="#/components/schemas/{model}"
    )
    definitions: dict[str, Any] = schemas["$defs"]
    return definitions


def reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
