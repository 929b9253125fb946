"""The History page without any web in it: questions about the past, their answers, figures and files."""
