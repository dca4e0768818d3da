"""Which options does a function take: declared once, checked, read from the source, known to type checkers."""

from zhenlong.options.declare import Options, require_option, take_options, unknown_option

__all__ = ["Options", "require_option", "take_options", "unknown_option"]
