"""CMATH: emotion recognition in multimodal conversations, in JAX and Flax."""
