"""PromQL over columns: parse (promql-parser), plan into nodes, evaluate with NumPy over values [series, steps]."""
