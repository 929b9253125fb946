"""Monte-Carlo valuation of the engine's positions."""
