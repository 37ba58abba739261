"""Self-attention in numpy: what the encoder of `ncf.models.attention` knows after the last item of a history.

In: the encoder's weights and the vectors of a history's items, oldest first. Out: one vector, equal to the
torch module's up to the last bits of float32. The decision worth knowing: only the last position is asked
for, so the last block works out one position, and the others all of them.

Legend: n items of a history, D factors, H heads.
"""

from collections.abc import Mapping

import numpy as np

from ncf.serving.numpy_model import Floats

ENCODER = "history_encoder.safetensors"
"""The file of the weights in an artifact."""
_EPSILON = np.float32(1e-5)  # that of torch.nn.LayerNorm
_ZERO = np.float32(0)


class NumpyEncoder:
    """The blocks of attention, from weights by name; `length` items are read at most."""

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        self.weights = weights
        self._blocks = sum(name.endswith("mix.weight") for name in weights)
        self._heads, self.length = weights["blocks.0.log_weights"].shape
        # [H, length, length] of each block: what scores have added, the second position seen from the first.
        places = np.arange(self.length)
        ages = places[:, None] - places
        self._by_age = [
            np.where(
                ages < 0, np.float32(-np.inf), weights[f"blocks.{n}.log_weights"][:, np.maximum(ages, 0)]
            )
            for n in range(self._blocks)
        ]
        self._turned = {
            name: np.ascontiguousarray(value.T) for name, value in weights.items() if value.ndim == 2
        }

    def after(self, vectors_nD: Floats) -> Floats:
        """[D] after the last of at most `length` items; zeros without any."""
        count, width = vectors_nD.shape
        if not count:
            return np.zeros(width, np.float32)
        states_nD = vectors_nD * np.float32(width**0.5)
        for block in range(self._blocks):
            states_nD = self._block(block, states_nD, block == self._blocks - 1)
        last_D: Floats = self._normed("norm", states_nD[-1:])[0]
        return last_D

    def _block(self, number: int, states_nD: Floats, last: bool) -> Floats:
        """[n, D], or only the last position of it."""
        name = f"blocks.{number}."
        count, width = states_nD.shape
        asked = slice(-1, None) if last else slice(None)
        normed_nD = self._normed(f"{name}attention_norm", states_nD)
        split = normed_nD @ self._turned[f"{name}query_key_value.weight"]
        query, key, value = (
            split[:, start : start + width].reshape(count, self._heads, -1).transpose(1, 0, 2)
            for start in range(0, 3 * width, width)
        )
        scores: Floats = query[:, asked] @ key.transpose(0, 2, 1)
        scores *= np.float32((width // self._heads) ** -0.5)
        scores += self._by_age[number][:, :count, :count][:, asked]
        scores -= scores.max(2, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(2, keepdims=True)
        seen: Floats = (scores @ value).transpose(1, 0, 2).reshape(-1, width)
        states: Floats = states_nD[asked] + self._layer(f"{name}mix", seen)
        hidden = self._layer(f"{name}first", self._normed(f"{name}layers_norm", states))
        np.maximum(hidden, _ZERO, out=hidden)
        states += self._layer(f"{name}second", hidden)
        return states

    def _layer(self, name: str, values: Floats) -> Floats:
        result: Floats = values @ self._turned[f"{name}.weight"]
        result += self.weights[f"{name}.bias"]
        return result

    def _normed(self, name: str, values: Floats) -> Floats:
        centred: Floats = values - values.mean(1, keepdims=True)
        variance = np.einsum("nd,nd->n", centred, centred)[:, None] / np.float32(values.shape[1])
        centred /= np.sqrt(variance + _EPSILON)
        centred *= self.weights[f"{name}.weight"]
        centred += self.weights[f"{name}.bias"]
        return centred
