"""Converters from the schemas of upstream data sets to instances, one module per kind."""
