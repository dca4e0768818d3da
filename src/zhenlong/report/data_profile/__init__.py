"""Profiles of data sets side by side: in the terminal, as JSON, and as a page."""

from zhenlong.report.data_profile.command import profile

__all__ = ["profile"]
