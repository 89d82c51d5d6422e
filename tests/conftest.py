from hypothesis import settings

# A busy machine is not a bug: no time limit for one example.
settings.register_profile("patient", deadline=None, max_examples=60)
settings.load_profile("patient")
