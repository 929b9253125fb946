"""Ways to reach a person or a program: e-mail, webhook."""
