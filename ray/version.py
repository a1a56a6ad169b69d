"""The version of this copy of Ray. One place, read by the command line, the packaging and the metrics."""

VERSION = "0.1.0"
