"""The model of a profile, on the profile's engine."""

from pathlib import Path

from clear_lib import engines
from clear_lib.study.setup.profiles import Profile


def start(profile: Profile, weights: str | Path | None = None) -> engines.Engine:
    """Start the engine of a profile; ``weights`` is its GGUF file or the folder of it, fetched from the hub without."""
    if weights is not None and not profile.weights:
        raise ValueError(f"profile {profile.name!r} names no file of weights, so {str(weights)!r} has no use")
    settings = {} if profile.weights is None else {**profile.weights, "path": weights}
    if profile.engine != "openai":  # a server has chosen its weights and its precision
        settings |= {"revision": profile.revision, "dtype": profile.dtype, "batch_size": profile.batch_size}
    if twice := ", ".join(settings.keys() & profile.engine_options):
        raise ValueError(f"profile {profile.name!r}: engine_options repeats {twice}, a field of the profile")
    try:
        return engines.start(profile.engine, profile.model, **settings, **profile.engine_options)
    except engines.ModelError:
        raise
    except ValueError as error:
        raise ValueError(f"profile {profile.name!r}: {error}") from error
