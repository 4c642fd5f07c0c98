"""From a YAML file to a checked configuration to the cells of a grid."""
