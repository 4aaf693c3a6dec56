"""The platform on one laptop: broker, demo data, supervisor."""
