"""What do upstream rows mean? Converters from a data set's schema to instances, one module for each kind."""
