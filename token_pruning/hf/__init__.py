"""The vision transformers of Hugging Face ``transformers`` as hosts; the library itself is never imported here."""

from .families import FAMILIES, Family, family_of
from .patches import apply, is_applied, is_hugging_face, remove

__all__ = ["FAMILIES", "Family", "apply", "family_of", "is_applied", "is_hugging_face", "remove"]
