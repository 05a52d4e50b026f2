"""The features of prepared conversations, read from ArrayRecord files by random access.

Shapes: n utterances of a conversation, f files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from cmath_jax.data.corpus import MODALITIES
from cmath_jax.errors import InputError
from cmath_jax.io.files import unreadable


@dataclass(frozen=True)
class Records:
    """The features of the conversations of a split, by random access; threads may share it.

    Attributes:
      files: `tensorflow_datasets` file instructions, in order: each a file and how many conversations it holds.
      dims: m -> d_m.
    """

    files: tuple[Any, ...]
    dims: Mapping[str, int]

    def features(self, record: int, length: int) -> dict[str, np.ndarray]:
        """Reads m -> float32 [n, d_m] of conversation `record`, which has `length` utterances; the arrays are
        read-only.

        Raises:
          InputError: the file cannot be read, or holds something else.
        """
        f = int(np.searchsorted(self._starts, record, side="right")) - 1
        # Parsed here, since TFDS takes five times as long.
        try:
            example = tf_example_pb2.Example.FromString(self._sources[f][record - int(self._starts[f])])
            stored = {m: example.features.feature[f"{MODALITIES[m]}/value"].bytes_list.value[0] for m in self.dims}
            return {m: np.frombuffer(stored[m], np.float32).reshape(length, d) for m, d in self.dims.items()}
        except OSError as error:
            raise unreadable(self.files[f].filename, error) from error
        except (ValueError, RuntimeError, LookupError, DecodeError) as error:
            raise InputError(
                f"{self.files[f].filename} is damaged or gone ({error!r}, conversation {record} of its split): delete "
                "the folder, and it is prepared anew"
            ) from error

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(file.take for file in self.files[:-1])])

    @cached_property
    def _sources(self) -> list[ArrayRecordDataSource]:
        return [ArrayRecordDataSource([file]) for file in self.files]
