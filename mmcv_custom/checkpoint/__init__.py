"""Reading weights and loading them into models, whatever published names they carry."""
