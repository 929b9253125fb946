"""The nouns everybody shares: Series, Schema, Frame, the catalogue, Clock, severity tiers, errors."""
