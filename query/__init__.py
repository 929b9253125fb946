"""PromQL over columns: parse, plan into nodes, evaluate with NumPy over values [series, steps]."""
