"""Suites: lists of scenarios, one YAML file each; see `zhenlong.evaluate.run.suites`."""
