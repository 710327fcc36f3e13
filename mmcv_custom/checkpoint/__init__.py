"""Reading checkpoints and loading them into models, whatever published names they carry."""
