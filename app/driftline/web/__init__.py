"""The worker's web server."""
