"""The one form of every report: rows, envelope, files, drawings; and what all commands share in asking and telling."""
