"""The exceptions for settings that the core cannot use."""


class SettingError(ValueError):
    """A setting that does not exist, is out of range, or does not fit the model or its input.

    The message is one sentence that says what is wrong and what to set instead.
    """


class ExportError(SettingError):
    """``torch.export`` cannot make a graph of this model with this execution; the message says what to set instead."""
