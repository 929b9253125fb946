"""Who is told of an alert, how soon, and why somebody is not."""
