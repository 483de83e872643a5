"""River's objects: written as expressions, built, seeded, made deterministic."""
