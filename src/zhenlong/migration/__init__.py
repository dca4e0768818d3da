"""How do I come from another library? Its configurations as options of the stages here."""
